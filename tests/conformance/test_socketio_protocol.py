"""Socket.IO, protocol 5: what its specification asks of a server, against a peer of our own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from broker.infrastructure.transport.engineio import heartbeat
from broker.infrastructure.transport.socketio.server import ATTACHMENTS_MAX, NAMESPACE_MAX
from tests.support.conformance_peer import LONGEST
from tests.support.engineio_client import (
    PING_INTERVAL,
    PING_TIMEOUT,
    TICK,
    Client,
    Socket,
    client_of,
    heard,
    is_closed,
    is_pinged,
    join,
    lives,
    settle,
)
from tests.support.loop_clock import LoopClock
from tests.support.waiting import eventually

TWO = '{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}'
ONE = '{"_placeholder":true,"num":0}'


@pytest.fixture
async def peer() -> AsyncIterator[Client]:
    """Its heartbeat is too slow to be what closes a socket here."""
    async with client_of("sio", ping_interval=25.0, ping_timeout=20.0) as client:
        yield client


@asynccontextmanager
async def joined(peer: Client, namespace: str = "") -> AsyncIterator[Socket]:
    """A socket that is in a namespace, which is written with its comma."""
    async with peer.opened() as socket:
        await join(socket, namespace)
        yield socket


# ---- connect ----


@pytest.mark.parametrize("namespace", ["", "/custom,"])
@pytest.mark.parametrize("payload", ["", '{"token":"123"}'])
async def test_a_socket_joins_a_namespace(peer: Client, namespace: str, payload: str) -> None:
    async with peer.opened() as socket:
        await socket.send_str(f"40{namespace}{payload}")

        answer = await heard(socket)
        assert answer.startswith(f"40{namespace}")
        assert [*json.loads(answer.removeprefix(f"40{namespace}"))] == ["sid"]
        assert await heard(socket) == f'42{namespace}["auth",{payload or "{}"}]'


async def test_a_comma_after_the_namespace_may_be_left_out(peer: Client) -> None:
    async with peer.opened() as socket:
        await socket.send_str("40/custom")

        assert (await heard(socket)).startswith("40/custom,")


async def test_a_query_is_no_part_of_the_namespace(peer: Client) -> None:
    async with peer.opened() as socket:
        await socket.send_str("40/custom?a=b,")

        assert (await heard(socket)).startswith("40/custom,")


async def test_an_unknown_namespace_is_refused(peer: Client) -> None:
    async with joined(peer) as socket:
        await socket.send_str("40/random")

        assert await heard(socket) == '44/random,{"message":"Invalid namespace"}'
        assert await lives(socket)


async def test_nobody_joins_twice(peer: Client) -> None:
    async with joined(peer) as socket:
        await socket.send_str("40")

        assert await heard(socket) == '44{"message":"Already connected"}'
        assert await lives(socket)


async def test_a_socket_has_another_name_in_each_namespace(peer: Client) -> None:
    async with peer.opened() as socket:
        sids = set()
        for namespace in ("", "/custom,"):
            await socket.send_str(f"40{namespace}")
            sids.add(await heard(socket))
            await heard(socket)

        assert len(sids) == 2


async def test_a_namespace_too_long_closes_the_socket(peer: Client) -> None:
    async with joined(peer) as socket:
        await socket.send_str("40/" + "n" * NAMESPACE_MAX)

        assert await is_closed(socket)


async def test_a_socket_that_joins_nothing_is_closed(
    monkeypatch: pytest.MonkeyPatch, loop_clock: LoopClock
) -> None:
    """Not before its time, and though its heartbeat is quick."""
    monkeypatch.setattr(heartbeat, "JOIN_TIMEOUT", 100.0)
    async with (
        client_of("sio", ping_interval=PING_INTERVAL, ping_timeout=PING_TIMEOUT) as peer,
        peer.opened() as socket,
    ):
        for _ in range(3):
            await loop_clock.move(PING_INTERVAL + TICK)
            assert await is_pinged(socket)
            await socket.send_str("3")
            await settle(socket)

        await loop_clock.move(PING_INTERVAL)

        assert await is_closed(socket)
        assert socket.close_code == 1008


async def test_a_handshake_that_is_none_closes_the_socket(peer: Client) -> None:
    async with peer.opened() as socket:
        await socket.send_str("4abc")

        assert await is_closed(socket)


async def test_a_socket_joins_over_long_polling(peer: Client) -> None:
    sid = await peer.open()
    await peer.post(sid, "40")

    answers = ""
    while "auth" not in answers:
        answers += (await peer.poll(sid))[1]

    assert answers.startswith('40{"sid":')


# ---- disconnect ----


async def test_a_socket_that_leaves_goes_on_in_other_namespaces(peer: Client) -> None:
    async with joined(peer) as socket:
        await join(socket, "/custom,")

        await socket.send_str("41/custom,")
        await socket.send_str('42/custom,["message","lost"]')

        assert await lives(socket)


async def test_a_socket_that_leaves_all_still_has_its_heartbeat(
    monkeypatch: pytest.MonkeyPatch, loop_clock: LoopClock, peer: Client
) -> None:
    monkeypatch.setattr(heartbeat, "JOIN_TIMEOUT", 100.0)
    async with joined(peer) as socket:
        await socket.send_str("41")
        await settle(socket)

        await loop_clock.move(PING_INTERVAL + TICK)

        assert await is_pinged(socket)


async def test_a_socket_that_left_may_join_again(peer: Client) -> None:
    async with joined(peer) as socket:
        await socket.send_str("41")
        await join(socket)

        assert await lives(socket)


async def test_a_server_that_sends_a_socket_away_says_so(peer: Client) -> None:
    async with peer.opened() as socket:
        await socket.send_str("40/custom,")
        sid = json.loads((await heard(socket)).partition(",")[2])["sid"]
        await heard(socket)

        await peer.server.disconnect(sid, namespace="/custom")

        assert await heard(socket) == "41/custom,"


# ---- events ----


async def test_a_plain_event_comes_back(peer: Client) -> None:
    async with joined(peer) as socket:
        await socket.send_str('42["message",1,"2",{"3":[true]}]')

        assert await heard(socket) == '42["message-back",1,"2",{"3":[true]}]'


async def test_a_plain_event_is_answered(peer: Client) -> None:
    async with joined(peer) as socket:
        await socket.send_str('42456["message-with-ack",1,"2",{"3":[false]}]')

        assert await heard(socket) == '43456[1,"2",{"3":[false]}]'


async def test_events_are_of_the_namespace_that_they_name(peer: Client) -> None:
    async with joined(peer, "/custom,") as socket:
        await socket.send_str('42["message","not joined"]')
        await socket.send_str('42/custom,7["message-with-ack"]')

        assert await heard(socket) == "43/custom,7[]"


async def test_an_event_with_attachments_comes_back(peer: Client) -> None:
    async with joined(peer) as socket:
        await socket.send_str(f'452-["message",{TWO}]')
        await socket.send_bytes(b"\x01\x02\x03")
        await socket.send_bytes(b"\x04\x05\x06")

        assert await heard(socket) == f'452-["message-back",{TWO}]'
        assert await socket.receive_bytes() == b"\x01\x02\x03"
        assert await socket.receive_bytes() == b"\x04\x05\x06"


async def test_an_event_with_attachments_is_answered(peer: Client) -> None:
    async with joined(peer, "/custom,") as socket:
        await socket.send_str(f'452-/custom,789["message-with-ack",{TWO}]')
        await socket.send_bytes(b"\x01\x02\x03")
        await socket.send_bytes(b"\x04\x05\x06")

        assert await heard(socket) == f"462-/custom,789[{TWO}]"
        assert await socket.receive_bytes() == b"\x01\x02\x03"
        assert await socket.receive_bytes() == b"\x04\x05\x06"


async def test_attachments_go_by_long_polling_too(peer: Client) -> None:
    sid = await peer.open()
    await peer.post(sid, "40")
    await peer.post(sid, f'451-["message",{ONE}]' + "\x1ebAQID")

    answers = ""
    while "bAQID" not in answers:
        answers += (await peer.poll(sid))[1] + "\x1e"

    assert f'451-["message-back",{ONE}]\x1ebAQID' in answers


async def test_an_answer_that_nobody_asked_for_is_left_alone(peer: Client) -> None:
    async with joined(peer) as socket:
        await socket.send_str("437[]")

        assert await lives(socket)


async def test_a_server_gets_its_answer(peer: Client) -> None:
    async with joined(peer) as socket:
        [sid] = [one for one, _ in peer.server.manager.get_participants("/", None)]
        answers: asyncio.Queue[str] = asyncio.Queue()
        await peer.server.emit("question", to=sid, callback=answers.put)
        asked = await heard(socket)
        number = asked.removeprefix("42").removesuffix('["question"]')

        await socket.send_str(f'43{number}["answer"]')
        await socket.send_str(f'43{number}["once more"]')

        assert await answers.get() == "answer"
        assert await lives(socket)
        assert answers.empty()


@pytest.mark.parametrize(
    "packet",
    [
        "abc",
        "7",
        "",
        "2{}",
        "2",
        "2[]",
        '2"message"',
        "2[[]]",
        "2[",
        '2["message",NaN]',
        '2["message",-Infinity]',
        '2["message",1e999]',
        r'2["message","\ud800"]',
        '2["connect"]',
        '2["disconnect"]',
        'abc["message-with-ack",1]',
        '2abc["message-with-ack",1,"2",{"3":[false]}]',
        '2-1["message"]',
        "2" + "9" * 101 + '["message"]',
        "31{}",
        "3[]",
        "4",
        '4{"message":"an error"}',
        '50-["message"]',
        f'5{ATTACHMENTS_MAX + 1}-["message",{ONE}]',
        '5["message"]',
        f'5-1-["message",{ONE}]',
        f'51-/nowhere,["message",{ONE}]',
    ],
)
async def test_what_is_no_packet_closes_the_socket(peer: Client, packet: str) -> None:
    async with joined(peer) as socket:
        await socket.send_str("4" + packet)

        assert await is_closed(socket)
        assert socket.close_code in (1000, 1008)


async def test_an_attachment_of_no_event_closes_the_socket(peer: Client) -> None:
    async with joined(peer) as socket:
        await socket.send_bytes(b"x")

        assert await is_closed(socket)


async def test_text_amid_attachments_closes_the_socket(peer: Client) -> None:
    async with joined(peer) as socket:
        await socket.send_str(f'452-["message",{TWO}]')
        await socket.send_bytes(b"x")
        await socket.send_str('42["message"]')

        assert await is_closed(socket)


@pytest.mark.parametrize("number", ["1", "-1", '"0"', "null", "true", "0.0", "false", "[]"])
async def test_a_placeholder_of_no_attachment_closes_the_socket(peer: Client, number: str) -> None:
    async with joined(peer) as socket:
        await socket.send_str(f'451-["message",{{"_placeholder":true,"num":{number}}}]')
        await socket.send_bytes(b"x")

        assert await is_closed(socket)


async def test_attachments_are_held_up_to_the_limit(peer: Client) -> None:
    """Of one message, all of them together: they are held till the last has come."""
    async with joined(peer) as socket:
        await socket.send_str(f'452-["message",{TWO}]')
        for _ in range(2):
            await socket.send_bytes(b"x" * (LONGEST // 2 + 1))

        assert await is_closed(socket)


async def test_nothing_is_left_of_an_event_that_never_was_whole(peer: Client) -> None:
    async with joined(peer) as socket:
        [sid] = [one for one, _ in peer.server.manager.get_participants("/", None)]
        await socket.send_str(f'452-["message",{TWO}]')
        await eventually(lambda: len(peer.server._binary_packet) == 1)
        await peer.server.disconnect(sid)

    await eventually(lambda: peer.server._binary_packet == {} == peer.server.environ)
