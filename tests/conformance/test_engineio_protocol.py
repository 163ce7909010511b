"""Tests of a server by the specification of Engine.IO, protocol 4.

Tests that send no message run against an Engine.IO server and a Socket.IO server,
as in the official suites.
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
async def client(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, loop_clock: LoopClock
) -> AsyncIterator[Client]:
    """An Engine.IO or Socket.IO server. Its heartbeat follows the clock of the test."""
    monkeypatch.setattr(heartbeat, "JOIN_TIMEOUT", 3600.0)
    monkeypatch.setattr(upgrade, "PROBE_TIMEOUT", 3600.0)
    async with client_of(
        request.param, ping_interval=PING_INTERVAL, ping_timeout=PING_TIMEOUT
    ) as client:
        yield client


@pytest.fixture
async def echo_client() -> AsyncIterator[Client]:
    """An Engine.IO echo server. Its heartbeat closes no session in these tests."""
    async with client_of("eio", ping_interval=25.0, ping_timeout=20.0) as client:
        yield client


async def probe(client: Client, sid: str, socket: aiohttp.ClientWebSocketResponse) -> None:
    """Probe the WebSocket of a polling session."""
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


async def test_polling_opens_a_session(client: Client) -> None:
    async with client.http.get(client.query("polling")) as response:
        assert response.status == 200
        assert response.content_type == "text/plain"
        assert is_open_packet(await response.text(), ["websocket"])


async def test_websocket_opens_a_session(client: Client) -> None:
    async with client.connect() as socket:
        assert is_open_packet(await socket.receive_str(), [])


async def test_session_ids_are_unique(client: Client) -> None:
    assert len({await client.open() for _ in range(20)}) == 20


@pytest.mark.parametrize("transport", ["polling", "websocket"])
@pytest.mark.parametrize("version", ["", "EIO=abc&", "EIO=3&", "EIO=&", "EIO=44&"])
async def test_another_version_is_refused(client: Client, transport: str, version: str) -> None:
    assert await client.ask(f"?{version}transport={transport}") == 400


@pytest.mark.parametrize("transport", ["", "&transport=abc", "&transport="])
async def test_another_transport_is_refused(client: Client, transport: str) -> None:
    assert await client.ask(f"?EIO=4{transport}") == 400
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await client.http.ws_connect(f"{client.path}?EIO=4{transport}")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "HEAD"])
async def test_handshake_must_be_a_get(client: Client, method: str) -> None:
    assert await client.ask("?EIO=4&transport=polling", method) == 400


async def test_unknown_session_is_refused(client: Client) -> None:
    assert await client.poll("unknown") == (400, '{"code": 1, "message": "Session ID unknown"}')
    assert (await client.post("unknown", "4x"))[0] == 400
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await client.connect("unknown")


async def test_page_of_an_allowed_origin_may_read_responses(client: Client) -> None:
    page = {"Origin": "https://site.example"}
    async with client.http.get(client.query("polling"), headers=page) as response:
        assert response.headers["Access-Control-Allow-Origin"] == page["Origin"]
    async with client.http.options(client.query("polling"), headers=page) as response:
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
async def test_posted_message_is_returned_by_a_poll(echo_client: Client, body: str) -> None:
    sid = await echo_client.open()

    assert await echo_client.post(sid, body) == (200, "ok")
    assert await echo_client.poll(sid) == (200, body)


async def test_poll_waits_for_a_message(echo_client: Client) -> None:
    sid = await echo_client.open()
    poll = await echo_client.start_poll(sid)

    await echo_client.post(sid, "4hello")

    assert await poll == (200, "4hello")


@pytest.mark.parametrize(
    "body",
    ["abc", "", SEPARATOR, "4a\x1e", "b!", "bAQ", "bAQI=AQI=", "0{}", "2", "6", "7", b"\xff4"],
)
async def test_post_without_packet_ends_the_session(echo_client: Client, body: str | bytes) -> None:
    sid = await echo_client.open()

    assert (await echo_client.post(sid, body))[0] == 400
    assert (await echo_client.poll(sid))[0] == 400


async def test_body_over_the_limit_ends_the_session(echo_client: Client) -> None:
    sid = await echo_client.open()

    assert (await echo_client.post(sid, "4" + "x" * LONGEST))[0] == 413
    assert (await echo_client.poll(sid))[0] == 400


async def test_body_at_the_limit_is_accepted(echo_client: Client) -> None:
    sid = await echo_client.open()
    body = "4" + "x" * (LONGEST // 4 - 2)

    assert (await echo_client.post(sid, body))[0] == 200
    assert await echo_client.poll(sid) == (200, body)


async def test_simultaneous_polls_end_the_session(echo_client: Client) -> None:
    sid = await echo_client.open()
    first = await echo_client.start_poll(sid)

    assert (await echo_client.poll(sid))[0] == 400

    assert await first == (200, "1")
    assert (await echo_client.poll(sid))[0] == 400


async def test_cancelled_poll_ends_the_session(echo_client: Client) -> None:
    """The messages of its response may be lost."""
    sid = await echo_client.open()
    poll = await echo_client.start_poll(sid)

    poll.cancel()

    assert (await echo_client.poll(sid))[0] == 400


async def test_simultaneous_posts_end_the_session(echo_client: Client) -> None:
    sid = await echo_client.open()
    one_is_answered = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"4he"
        await one_is_answered.wait()
        yield b"llo"

    posts = {asyncio.create_task(echo_client.post(sid, body())) for _ in range(2)}
    [first], [second] = await asyncio.wait(posts, return_when=asyncio.FIRST_COMPLETED)
    one_is_answered.set()

    assert (await first)[0] == 400
    assert (await second)[0] in (200, 400)
    assert (await echo_client.poll(sid))[0] == 400


async def test_text_is_returned_over_a_websocket(echo_client: Client) -> None:
    async with echo_client.opened() as socket:
        await socket.send_str("4hello")

        assert await socket.receive_str() == "4hello"


async def test_binary_is_returned_over_a_websocket(echo_client: Client) -> None:
    async with echo_client.opened() as socket:
        await socket.send_bytes(bytes([1, 2, 3, 4]))

        assert await socket.receive_bytes() == bytes([1, 2, 3, 4])


async def test_messages_are_returned_in_order(echo_client: Client) -> None:
    async with echo_client.opened() as socket:
        for number in range(300):
            await socket.send_str(f"4{number}")

        assert [await socket.receive_str() for _ in range(300)] == [f"4{n}" for n in range(300)]


@pytest.mark.parametrize("packet", ["abc", "", "0{}", "2", "2probe", "5", "6", "7", "3probe", "\0"])
async def test_invalid_packet_ends_a_websocket(echo_client: Client, packet: str) -> None:
    async with echo_client.opened() as socket:
        await socket.send_str(packet)

        assert await is_closed(socket)
        assert socket.close_code == 1008


async def test_message_over_the_limit_ends_a_websocket(echo_client: Client) -> None:
    async with echo_client.opened() as socket:
        await socket.send_str("4" + "x" * LONGEST)

        assert await is_closed(socket)
        assert socket.close_code == 1009


async def test_message_at_the_limit_is_accepted(echo_client: Client) -> None:
    async with echo_client.opened() as socket:
        text = "4" + "x" * (LONGEST // 4)
        await socket.send_str(text)

        assert await socket.receive_str() == text


# ---- heartbeat ----


async def test_polling_session_receives_a_ping(client: Client, loop_clock: LoopClock) -> None:
    sid = await client.open()

    for _ in range(3):
        await loop_clock.move(PING_INTERVAL + TICK)
        assert await client.poll(sid) == (200, "2")
        assert (await client.post(sid, "3"))[0] == 200


async def test_polling_session_without_pong_ends(client: Client, loop_clock: LoopClock) -> None:
    sid = await client.open()
    await loop_clock.move(PING_INTERVAL + TICK)
    assert await client.poll(sid) == (200, "2")

    await loop_clock.move(PING_TIMEOUT + TICK)

    assert (await client.poll(sid))[0] == 400


async def test_websocket_receives_a_ping(client: Client, loop_clock: LoopClock) -> None:
    async with client.opened() as socket:
        for _ in range(3):
            await loop_clock.move(PING_INTERVAL + TICK)
            assert await is_pinged(socket)
            await socket.send_str("3")
            await settle(socket)


async def test_websocket_without_pong_ends(client: Client, loop_clock: LoopClock) -> None:
    async with client.opened() as socket:
        await loop_clock.move(PING_INTERVAL + TICK)
        assert await is_pinged(socket)

        await loop_clock.move(PING_TIMEOUT + TICK)

        assert await is_closed(socket)


async def test_unsolicited_pong_is_ignored(client: Client, loop_clock: LoopClock) -> None:
    """Otherwise one client could answer all future pings in advance."""
    async with client.opened() as socket:
        await socket.send_str("3")
        await settle(socket)
        await loop_clock.move(PING_INTERVAL + TICK)
        assert await is_pinged(socket)

        await loop_clock.move(PING_TIMEOUT + TICK)

        assert await is_closed(socket)


# ---- close ----


async def test_polling_session_can_close(client: Client) -> None:
    sid = await client.open()
    poll = await client.start_poll(sid)

    assert (await client.post(sid, "1"))[0] == 200

    assert await poll == (200, "6")
    assert (await client.poll(sid))[0] == 400


async def test_websocket_can_close(client: Client) -> None:
    async with client.opened() as socket:
        await socket.send_str("1")

        assert await is_closed(socket)
        assert socket.close_code == 1000


async def test_messages_after_a_close_are_ignored(echo_client: Client) -> None:
    sid = await echo_client.open()
    received: list[object] = []
    echo_client.server.on("message", lambda sid, data: received.append(data))

    await echo_client.post(sid, "1\x1e4late")

    assert received == []


async def test_server_sends_a_close_packet(echo_client: Client) -> None:
    sid = await echo_client.open()
    poll = await echo_client.start_poll(sid)

    await echo_client.server.disconnect(sid)

    assert await poll == (200, "1")


# ---- upgrade ----


async def test_polling_session_upgrades_to_a_websocket(
    client: Client, loop_clock: LoopClock
) -> None:
    sid = await client.open()
    async with client.connect(sid) as socket:
        await probe(client, sid, socket)

        await socket.send_str("5")
        await settle(socket)

        for _ in range(2):
            await loop_clock.move(PING_INTERVAL + TICK)
            assert await is_pinged(socket)
            await socket.send_str("3")
            await settle(socket)


async def test_messages_continue_over_the_websocket(echo_client: Client) -> None:
    sid = await echo_client.open()
    async with echo_client.connect(sid) as socket:
        await probe(echo_client, sid, socket)

        await socket.send_str("5")
        await socket.send_str("4hello")

        assert await socket.receive_str() == "4hello"


async def test_waiting_poll_ends_at_the_probe(echo_client: Client) -> None:
    sid = await echo_client.open()
    poll = await echo_client.start_poll(sid)
    async with echo_client.connect(sid) as socket:
        await socket.send_str("2probe")

        assert await poll == (200, "6")


async def test_messages_not_polled_arrive_first_over_the_websocket(echo_client: Client) -> None:
    sid = await echo_client.open()
    async with echo_client.connect(sid) as socket:
        await socket.send_str("2probe")
        assert await socket.receive_str() == "3probe"
        await echo_client.post(sid, "4one\x1ebAQI=")

        await socket.send_str("5")
        await socket.send_str("4two")

        assert await socket.receive_str() == "4one"
        assert await socket.receive_bytes() == base64.b64decode("AQI=")
        assert await socket.receive_str() == "4two"


async def test_poll_after_the_upgrade_is_refused(client: Client, loop_clock: LoopClock) -> None:
    sid = await client.open()
    async with client.connect(sid) as socket:
        await socket.send_str("2probe")
        assert await socket.receive_str() == "3probe"
        await socket.send_str("5")
        await settle(socket)

        assert (await client.poll(sid))[0] == 400
        await loop_clock.move(PING_INTERVAL + TICK)
        assert await is_pinged(socket)


async def test_post_after_the_upgrade_ends_the_session(echo_client: Client) -> None:
    """Two transports at once do not belong to one client."""
    async with echo_client.connect() as socket:
        sid = json.loads((await socket.receive_str())[1:])["sid"]

        assert (await echo_client.post(sid, "4x"))[0] == 400


async def test_second_websocket_of_a_session_is_refused(
    client: Client, loop_clock: LoopClock
) -> None:
    sid = await client.open()
    async with client.connect(sid) as socket:
        await socket.send_str("2probe")
        assert await socket.receive_str() == "3probe"
        await socket.send_str("5")
        await settle(socket)

        async with client.connect(sid) as second:
            assert await is_closed(second)

        await loop_clock.move(PING_INTERVAL + TICK)
        assert await is_pinged(socket)


@pytest.mark.parametrize("packet", ["4hello", "2", "2prob", "3probe", "0", "", "abc"])
async def test_invalid_probe_does_not_end_the_session(echo_client: Client, packet: str) -> None:
    sid = await echo_client.open()
    async with echo_client.connect(sid) as socket:
        await socket.send_str(packet)

        assert await is_closed(socket)

    assert (await echo_client.post(sid, "4hello"))[0] == 200
    assert await echo_client.poll(sid) == (200, "4hello")


async def test_end_of_a_session_closes_its_probe(echo_client: Client) -> None:
    sid = await echo_client.open()
    async with echo_client.connect(sid) as socket:
        await socket.send_str("2probe")
        assert await socket.receive_str() == "3probe"

        await echo_client.post(sid, "1")

        assert await is_closed(socket)


@pytest.mark.parametrize("how", ["disconnect", "shutdown"])
async def test_session_closed_during_upgrade_closes_its_websocket(
    echo_client: Client, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The official client has stopped polling, so this is the only way to notify it."""
    monkeypatch.setattr(session_table, "CLOSE_TIMEOUT", 30.0)
    monkeypatch.setattr(session_table, "CLOSE_POLLS", 3000)
    sid = await echo_client.open()
    async with echo_client.connect(sid) as socket:
        await probe(echo_client, sid, socket)
        end = (
            echo_client.server.shutdown()
            if how == "shutdown"
            else echo_client.server.disconnect(sid)
        )
        ending = asyncio.create_task(end)
        await settle(socket)

        await socket.send_str("5")

        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
        await ending


async def test_upgrade_keeps_the_heartbeat(client: Client, loop_clock: LoopClock) -> None:
    """The time of the next ping and a pending pong do not change."""
    sid = await client.open()
    await loop_clock.move(PING_INTERVAL + TICK)
    assert await client.poll(sid) == (200, "2")
    async with client.connect(sid) as socket:
        await socket.send_str("5")
        await settle(socket)

        await loop_clock.move(PING_TIMEOUT + TICK)

        assert await is_closed(socket)


async def test_ended_sessions_leave_no_data(client: Client, loop_clock: LoopClock) -> None:
    engine = client.engine
    sid = await client.open()
    await client.open()
    async with client.opened(), client.connect(sid) as socket:
        await socket.send_str("2probe")
        await socket.send_str("5")
        assert len(engine.sockets) == 3
    await loop_clock.move(PING_INTERVAL + PING_TIMEOUT + TICK)

    await eventually(lambda: not engine.sockets and not len(engine.sessions.inboxes))
    assert len(engine.sessions.heartbeat) == 0
