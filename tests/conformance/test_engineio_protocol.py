"""Engine.IO, protocol 4: what its specification asks of a server, against peers of our own.

What has to do with no message is asked of both peers, the one of Engine.IO and
the one of Socket.IO: so do the official suites.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from broker.infrastructure.transport.engineio import heartbeat, session_table, upgrade
from tests.support.conformance_peer import LONGEST, PEERS
from tests.support.engineio_client import (
    PING_INTERVAL,
    PING_TIMEOUT,
    SEPARATOR,
    TICK,
    Client,
    client_of,
    is_closed,
    is_pinged,
    settle,
)
from tests.support.loop_clock import LoopClock
from tests.support.waiting import eventually


@pytest.fixture(params=PEERS)
async def both(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, loop_clock: LoopClock
) -> AsyncIterator[Client]:
    """Either peer, one after the other. Its heartbeat is due when a test moves the clock."""
    monkeypatch.setattr(heartbeat, "JOIN_TIMEOUT", 3600.0)
    monkeypatch.setattr(upgrade, "PROBE_TIMEOUT", 3600.0)
    async with client_of(
        request.param, ping_interval=PING_INTERVAL, ping_timeout=PING_TIMEOUT
    ) as client:
        yield client


@pytest.fixture
async def echo() -> AsyncIterator[Client]:
    """Its heartbeat is too slow to be what closes a session here."""
    async with client_of("eio", ping_interval=25.0, ping_timeout=20.0) as client:
        yield client


async def probe(client: Client, sid: str, socket: aiohttp.ClientWebSocketResponse) -> None:
    """Try the websocket for a session that polls, and find it good."""
    await socket.send_str("2probe")
    assert await socket.receive_str() == "3probe"
    assert await client.poll(sid) == (200, "6")


def is_open_packet(text: str, upgrades: list[str]) -> bool:
    value = json.loads(text[1:])
    assert isinstance(value.pop("sid"), str)
    return text[0] == "0" and value == {
        "upgrades": upgrades,
        "pingInterval": 25_000,
        "pingTimeout": 20_000,
        "maxPayload": LONGEST,
    }


# ---- handshake ----


async def test_polling_opens_a_session(both: Client) -> None:
    async with both.http.get(both.query("polling")) as response:
        assert response.status == 200
        assert response.content_type == "text/plain"
        assert is_open_packet(await response.text(), ["websocket"])


async def test_a_websocket_opens_a_session(both: Client) -> None:
    async with both.connect() as socket:
        assert is_open_packet(await socket.receive_str(), [])


async def test_every_session_has_a_name_of_its_own(both: Client) -> None:
    assert len({await both.open() for _ in range(20)}) == 20


@pytest.mark.parametrize("transport", ["polling", "websocket"])
@pytest.mark.parametrize("version", ["", "EIO=abc&", "EIO=3&", "EIO=&", "EIO=44&"])
async def test_another_version_is_refused(both: Client, transport: str, version: str) -> None:
    assert await both.ask(f"?{version}transport={transport}") == 400


@pytest.mark.parametrize("transport", ["", "&transport=abc", "&transport="])
async def test_another_transport_is_refused(both: Client, transport: str) -> None:
    assert await both.ask(f"?EIO=4{transport}") == 400
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await both.http.ws_connect(f"{both.path}?EIO=4{transport}")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "HEAD"])
async def test_a_handshake_is_a_get(both: Client, method: str) -> None:
    assert await both.ask("?EIO=4&transport=polling", method) == 400


async def test_a_session_that_there_is_not_is_refused(both: Client) -> None:
    assert await both.poll("nobody") == (400, '{"code": 1, "message": "Session ID unknown"}')
    assert (await both.post("nobody", "4x"))[0] == 400
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await both.connect("nobody")


async def test_a_page_of_another_origin_may_read_what_it_is_answered(both: Client) -> None:
    page = {"Origin": "https://site.example"}
    async with both.http.get(both.query("polling"), headers=page) as response:
        assert response.headers["Access-Control-Allow-Origin"] == page["Origin"]
    async with both.http.options(both.query("polling"), headers=page) as response:
        assert response.status == 204


# ---- messages ----


@pytest.mark.parametrize(
    "body",
    [
        "4hello",
        SEPARATOR.join(["4test1", "4test2", "4test3"]),
        SEPARATOR.join(["4hello", "bAQIDBA=="]),
        "4",
        "b",
        "4\u20ac \U0001f600",
        SEPARATOR.join(f"4{number}" for number in range(200)),
    ],
)
async def test_what_is_posted_comes_back_by_a_poll(echo: Client, body: str) -> None:
    sid = await echo.open()

    assert await echo.post(sid, body) == (200, "ok")
    assert await echo.poll(sid) == (200, body)


async def test_a_poll_waits_until_there_is_something(echo: Client) -> None:
    sid = await echo.open()
    poll = await echo.start_poll(sid)

    await echo.post(sid, "4hello")

    assert await poll == (200, "4hello")


@pytest.mark.parametrize(
    "body",
    ["abc", "", SEPARATOR, "4a\x1e", "b!", "bAQ", "bAQI=AQI=", "0{}", "2", "6", "7", b"\xff4"],
)
async def test_a_post_that_holds_no_packet_ends_the_session(
    echo: Client, body: str | bytes
) -> None:
    sid = await echo.open()

    assert (await echo.post(sid, body))[0] == 400
    assert (await echo.poll(sid))[0] == 400


async def test_a_body_over_the_limit_ends_the_session(echo: Client) -> None:
    sid = await echo.open()

    assert (await echo.post(sid, "4" + "x" * LONGEST))[0] == 413
    assert (await echo.poll(sid))[0] == 400


async def test_a_body_at_the_limit_is_taken(echo: Client) -> None:
    sid = await echo.open()
    body = "4" + "x" * (LONGEST // 4 - 2)

    assert (await echo.post(sid, body))[0] == 200
    assert await echo.poll(sid) == (200, body)


async def test_two_polls_at_once_end_the_session(echo: Client) -> None:
    sid = await echo.open()
    first = await echo.start_poll(sid)

    assert (await echo.poll(sid))[0] == 400

    assert await first == (200, "1")
    assert (await echo.poll(sid))[0] == 400


async def test_a_poll_that_was_given_up_ends_the_session(echo: Client) -> None:
    """What it would have carried may be lost."""
    sid = await echo.open()
    poll = await echo.start_poll(sid)

    poll.cancel()

    assert (await echo.poll(sid))[0] == 400


async def test_two_posts_at_once_end_the_session(echo: Client) -> None:
    sid = await echo.open()
    one_is_answered = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"4he"
        await one_is_answered.wait()
        yield b"llo"

    posts = {asyncio.create_task(echo.post(sid, body())) for _ in range(2)}
    [first], [second] = await asyncio.wait(posts, return_when=asyncio.FIRST_COMPLETED)
    one_is_answered.set()

    assert (await first)[0] == 400
    assert (await second)[0] in (200, 400)
    assert (await echo.poll(sid))[0] == 400


async def test_text_comes_back_over_a_websocket(echo: Client) -> None:
    async with echo.opened() as socket:
        await socket.send_str("4hello")

        assert await socket.receive_str() == "4hello"


async def test_binary_comes_back_over_a_websocket(echo: Client) -> None:
    async with echo.opened() as socket:
        await socket.send_bytes(bytes([1, 2, 3, 4]))

        assert await socket.receive_bytes() == bytes([1, 2, 3, 4])


async def test_messages_come_back_in_order(echo: Client) -> None:
    async with echo.opened() as socket:
        for number in range(300):
            await socket.send_str(f"4{number}")

        assert [await socket.receive_str() for _ in range(300)] == [f"4{n}" for n in range(300)]


@pytest.mark.parametrize("packet", ["abc", "", "0{}", "2", "2probe", "5", "6", "7", "3probe", "\0"])
async def test_what_is_no_packet_ends_a_websocket(echo: Client, packet: str) -> None:
    async with echo.opened() as socket:
        await socket.send_str(packet)

        assert await is_closed(socket)
        assert socket.close_code == 1008


async def test_a_message_over_the_limit_ends_a_websocket(echo: Client) -> None:
    async with echo.opened() as socket:
        await socket.send_str("4" + "x" * LONGEST)

        assert await is_closed(socket)
        assert socket.close_code == 1009


async def test_a_message_at_the_limit_is_taken(echo: Client) -> None:
    async with echo.opened() as socket:
        text = "4" + "x" * (LONGEST // 4)
        await socket.send_str(text)

        assert await socket.receive_str() == text


# ---- heartbeat ----


async def test_a_session_that_polls_is_pinged(both: Client, loop_clock: LoopClock) -> None:
    sid = await both.open()

    for _ in range(3):
        await loop_clock.move(PING_INTERVAL + TICK)
        assert await both.poll(sid) == (200, "2")
        assert (await both.post(sid, "3"))[0] == 200


async def test_a_session_that_polls_and_never_answers_ends(
    both: Client, loop_clock: LoopClock
) -> None:
    sid = await both.open()
    await loop_clock.move(PING_INTERVAL + TICK)
    assert await both.poll(sid) == (200, "2")

    await loop_clock.move(PING_TIMEOUT + TICK)

    assert (await both.poll(sid))[0] == 400


async def test_a_websocket_is_pinged(both: Client, loop_clock: LoopClock) -> None:
    async with both.opened() as socket:
        for _ in range(3):
            await loop_clock.move(PING_INTERVAL + TICK)
            assert await is_pinged(socket)
            await socket.send_str("3")
            await settle(socket)


async def test_a_websocket_that_never_answers_ends(both: Client, loop_clock: LoopClock) -> None:
    async with both.opened() as socket:
        await loop_clock.move(PING_INTERVAL + TICK)
        assert await is_pinged(socket)

        await loop_clock.move(PING_TIMEOUT + TICK)

        assert await is_closed(socket)


async def test_a_pong_that_was_not_asked_for_is_none(both: Client, loop_clock: LoopClock) -> None:
    """Or one could answer all pings to come."""
    async with both.opened() as socket:
        await socket.send_str("3")
        await settle(socket)
        await loop_clock.move(PING_INTERVAL + TICK)
        assert await is_pinged(socket)

        await loop_clock.move(PING_TIMEOUT + TICK)

        assert await is_closed(socket)


# ---- close ----


async def test_a_session_that_polls_closes(both: Client) -> None:
    sid = await both.open()
    poll = await both.start_poll(sid)

    assert (await both.post(sid, "1"))[0] == 200

    assert await poll == (200, "6")
    assert (await both.poll(sid))[0] == 400


async def test_a_websocket_closes(both: Client) -> None:
    async with both.opened() as socket:
        await socket.send_str("1")

        assert await is_closed(socket)
        assert socket.close_code == 1000


async def test_nothing_is_heard_after_a_close(echo: Client) -> None:
    sid = await echo.open()
    heard: list[object] = []
    echo.server.on("message", lambda sid, data: heard.append(data))

    await echo.post(sid, "1\x1e4late")

    assert heard == []


async def test_a_server_that_closes_a_session_says_so(echo: Client) -> None:
    sid = await echo.open()
    poll = await echo.start_poll(sid)

    await echo.server.disconnect(sid)

    assert await poll == (200, "1")


# ---- upgrade ----


async def test_a_session_goes_over_to_a_websocket(both: Client, loop_clock: LoopClock) -> None:
    sid = await both.open()
    async with both.connect(sid) as socket:
        await probe(both, sid, socket)

        await socket.send_str("5")
        await settle(socket)

        for _ in range(2):
            await loop_clock.move(PING_INTERVAL + TICK)
            assert await is_pinged(socket)
            await socket.send_str("3")
            await settle(socket)


async def test_messages_go_on_over_the_websocket(echo: Client) -> None:
    sid = await echo.open()
    async with echo.connect(sid) as socket:
        await probe(echo, sid, socket)

        await socket.send_str("5")
        await socket.send_str("4hello")

        assert await socket.receive_str() == "4hello"


async def test_a_poll_that_waits_ends_when_a_probe_is_answered(echo: Client) -> None:
    sid = await echo.open()
    poll = await echo.start_poll(sid)
    async with echo.connect(sid) as socket:
        await socket.send_str("2probe")

        assert await poll == (200, "6")


async def test_what_was_yet_to_be_polled_comes_first_over_the_websocket(echo: Client) -> None:
    sid = await echo.open()
    async with echo.connect(sid) as socket:
        await socket.send_str("2probe")
        assert await socket.receive_str() == "3probe"
        await echo.post(sid, "4one\x1ebAQI=")

        await socket.send_str("5")
        await socket.send_str("4two")

        assert await socket.receive_str() == "4one"
        assert await socket.receive_bytes() == base64.b64decode("AQI=")
        assert await socket.receive_str() == "4two"


async def test_a_session_that_has_its_websocket_is_not_polled(
    both: Client, loop_clock: LoopClock
) -> None:
    sid = await both.open()
    async with both.connect(sid) as socket:
        await socket.send_str("2probe")
        assert await socket.receive_str() == "3probe"
        await socket.send_str("5")
        await settle(socket)

        assert (await both.poll(sid))[0] == 400
        await loop_clock.move(PING_INTERVAL + TICK)
        assert await is_pinged(socket)


async def test_a_session_that_has_its_websocket_is_not_posted_to(echo: Client) -> None:
    """And does not go on: who holds both ways is not one client."""
    async with echo.connect() as socket:
        sid = json.loads((await socket.receive_str())[1:])["sid"]

        assert (await echo.post(sid, "4x"))[0] == 400


async def test_a_session_has_one_websocket(both: Client, loop_clock: LoopClock) -> None:
    sid = await both.open()
    async with both.connect(sid) as socket:
        await socket.send_str("2probe")
        assert await socket.receive_str() == "3probe"
        await socket.send_str("5")
        await settle(socket)

        async with both.connect(sid) as second:
            assert await is_closed(second)

        await loop_clock.move(PING_INTERVAL + TICK)
        assert await is_pinged(socket)


@pytest.mark.parametrize("packet", ["4hello", "2", "2prob", "3probe", "0", "", "abc"])
async def test_a_probe_of_something_else_ends_and_the_session_goes_on(
    echo: Client, packet: str
) -> None:
    sid = await echo.open()
    async with echo.connect(sid) as socket:
        await socket.send_str(packet)

        assert await is_closed(socket)

    assert (await echo.post(sid, "4hello"))[0] == 200
    assert await echo.poll(sid) == (200, "4hello")


async def test_a_session_that_ends_takes_its_probe_along(echo: Client) -> None:
    sid = await echo.open()
    async with echo.connect(sid) as socket:
        await socket.send_str("2probe")
        assert await socket.receive_str() == "3probe"

        await echo.post(sid, "1")

        assert await is_closed(socket)


@pytest.mark.parametrize("how", ["disconnect", "shutdown"])
async def test_a_session_that_is_closed_while_it_changes_over_is_closed_on_its_websocket(
    echo: Client, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The official client, which polls no more by then, hears of no end before it."""
    monkeypatch.setattr(session_table, "CLOSE_TIMEOUT", 30.0)
    monkeypatch.setattr(session_table, "CLOSE_POLLS", 3000)
    sid = await echo.open()
    async with echo.connect(sid) as socket:
        await probe(echo, sid, socket)
        end = echo.server.shutdown() if how == "shutdown" else echo.server.disconnect(sid)
        ending = asyncio.create_task(end)
        await settle(socket)

        await socket.send_str("5")

        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
        await ending


async def test_a_session_that_changes_over_keeps_its_heartbeat(
    both: Client, loop_clock: LoopClock
) -> None:
    """The ping is due when it was, and a pong that is owed stays owed."""
    sid = await both.open()
    await loop_clock.move(PING_INTERVAL + TICK)
    assert await both.poll(sid) == (200, "2")
    async with both.connect(sid) as socket:
        await socket.send_str("5")
        await settle(socket)

        await loop_clock.move(PING_TIMEOUT + TICK)

        assert await is_closed(socket)


async def test_nothing_is_left_of_sessions_that_have_ended(
    both: Client, loop_clock: LoopClock
) -> None:
    engine = both.engine
    sid = await both.open()
    await both.open()
    async with both.opened(), both.connect(sid) as socket:
        await socket.send_str("2probe")
        await socket.send_str("5")
        assert len(engine.sockets) == 3
    await loop_clock.move(PING_INTERVAL + PING_TIMEOUT + TICK)

    await eventually(lambda: not engine.sockets and not len(engine.sessions.inboxes))
    assert len(engine.sessions.heartbeat) == 0
