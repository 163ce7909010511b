"""Tests of a server by the specification of Socket.IO, protocol 5."""

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
async def client() -> AsyncIterator[Client]:
    """A Socket.IO server. Its heartbeat closes no socket in these tests."""
    async with client_of("sio", ping_interval=25.0, ping_timeout=20.0) as client:
        yield client


@asynccontextmanager
async def joined_socket(client: Client, namespace: str = "") -> AsyncIterator[Socket]:
    """Open a socket that has joined a namespace, which is written with its comma."""
    async with client.opened() as socket:
        await join(socket, namespace)
        yield socket


# ---- connect ----


@pytest.mark.parametrize("namespace", ["", "/custom,"])
@pytest.mark.parametrize("payload", ["", '{"token":"123"}'])
async def test_socket_joins_a_namespace(client: Client, namespace: str, payload: str) -> None:
    async with client.opened() as socket:
        await socket.send_str(f"40{namespace}{payload}")

        answer = await heard(socket)
        assert answer.startswith(f"40{namespace}")
        assert [*json.loads(answer.removeprefix(f"40{namespace}"))] == ["sid"]
        assert await heard(socket) == f'42{namespace}["auth",{payload or "{}"}]'


async def test_comma_after_the_namespace_is_optional(client: Client) -> None:
    async with client.opened() as socket:
        await socket.send_str("40/custom")

        assert (await heard(socket)).startswith("40/custom,")


async def test_query_is_not_part_of_the_namespace(client: Client) -> None:
    async with client.opened() as socket:
        await socket.send_str("40/custom?a=b,")

        assert (await heard(socket)).startswith("40/custom,")


async def test_unknown_namespace_is_refused(client: Client) -> None:
    async with joined_socket(client) as socket:
        await socket.send_str("40/random")

        assert await heard(socket) == '44/random,{"message":"Invalid namespace"}'
        assert await lives(socket)


async def test_second_join_closes_the_socket(client: Client) -> None:
    async with joined_socket(client) as socket:
        await socket.send_str("40")

        assert await heard(socket) == '44{"message":"Already connected"}'
        assert await lives(socket)


async def test_socket_id_differs_in_each_namespace(client: Client) -> None:
    async with client.opened() as socket:
        sids = set()
        for namespace in ("", "/custom,"):
            await socket.send_str(f"40{namespace}")
            sids.add(await heard(socket))
            await heard(socket)

        assert len(sids) == 2


async def test_long_namespace_closes_the_socket(client: Client) -> None:
    async with joined_socket(client) as socket:
        await socket.send_str("40/" + "n" * NAMESPACE_MAX)

        assert await is_closed(socket)


async def test_socket_without_namespace_is_closed(
    monkeypatch: pytest.MonkeyPatch, loop_clock: LoopClock
) -> None:
    """The socket is closed after the timeout, also if its heartbeat is frequent."""
    monkeypatch.setattr(heartbeat, "JOIN_TIMEOUT", 100.0)
    async with (
        client_of("sio", ping_interval=PING_INTERVAL, ping_timeout=PING_TIMEOUT) as client,
        client.opened() as socket,
    ):
        for _ in range(3):
            await loop_clock.move(PING_INTERVAL + TICK)
            assert await is_pinged(socket)
            await socket.send_str("3")
            await settle(socket)

        await loop_clock.move(PING_INTERVAL)

        assert await is_closed(socket)
        assert socket.close_code == 1008


async def test_invalid_handshake_closes_the_socket(client: Client) -> None:
    async with client.opened() as socket:
        await socket.send_str("4abc")

        assert await is_closed(socket)


async def test_socket_joins_over_long_polling(client: Client) -> None:
    sid = await client.open()
    await client.post(sid, "40")

    answers = ""
    while "auth" not in answers:
        answers += (await client.poll(sid))[1]

    assert answers.startswith('40{"sid":')


# ---- disconnect ----


async def test_socket_may_leave_one_namespace(client: Client) -> None:
    async with joined_socket(client) as socket:
        await join(socket, "/custom,")

        await socket.send_str("41/custom,")
        await socket.send_str('42/custom,["message","lost"]')

        assert await lives(socket)


async def test_socket_without_namespaces_keeps_its_heartbeat(
    monkeypatch: pytest.MonkeyPatch, loop_clock: LoopClock, client: Client
) -> None:
    monkeypatch.setattr(heartbeat, "JOIN_TIMEOUT", 100.0)
    async with joined_socket(client) as socket:
        await socket.send_str("41")
        await settle(socket)

        await loop_clock.move(PING_INTERVAL + TICK)

        assert await is_pinged(socket)


async def test_socket_may_rejoin_a_namespace(client: Client) -> None:
    async with joined_socket(client) as socket:
        await socket.send_str("41")
        await join(socket)

        assert await lives(socket)


async def test_disconnect_by_the_server_sends_a_packet(client: Client) -> None:
    async with client.opened() as socket:
        await socket.send_str("40/custom,")
        sid = json.loads((await heard(socket)).partition(",")[2])["sid"]
        await heard(socket)

        await client.server.disconnect(sid, namespace="/custom")

        assert await heard(socket) == "41/custom,"


# ---- events ----


async def test_text_event_is_echoed(client: Client) -> None:
    async with joined_socket(client) as socket:
        await socket.send_str('42["message",1,"2",{"3":[true]}]')

        assert await heard(socket) == '42["message-back",1,"2",{"3":[true]}]'


async def test_text_event_is_acknowledged(client: Client) -> None:
    async with joined_socket(client) as socket:
        await socket.send_str('42456["message-with-ack",1,"2",{"3":[false]}]')

        assert await heard(socket) == '43456[1,"2",{"3":[false]}]'


async def test_event_belongs_to_its_namespace(client: Client) -> None:
    async with joined_socket(client, "/custom,") as socket:
        await socket.send_str('42["message","not joined"]')
        await socket.send_str('42/custom,7["message-with-ack"]')

        assert await heard(socket) == "43/custom,7[]"


async def test_event_with_attachments_is_echoed(client: Client) -> None:
    async with joined_socket(client) as socket:
        await socket.send_str(f'452-["message",{TWO}]')
        await socket.send_bytes(b"\x01\x02\x03")
        await socket.send_bytes(b"\x04\x05\x06")

        assert await heard(socket) == f'452-["message-back",{TWO}]'
        assert await socket.receive_bytes() == b"\x01\x02\x03"
        assert await socket.receive_bytes() == b"\x04\x05\x06"


async def test_event_with_attachments_is_acknowledged(client: Client) -> None:
    async with joined_socket(client, "/custom,") as socket:
        await socket.send_str(f'452-/custom,789["message-with-ack",{TWO}]')
        await socket.send_bytes(b"\x01\x02\x03")
        await socket.send_bytes(b"\x04\x05\x06")

        assert await heard(socket) == f"462-/custom,789[{TWO}]"
        assert await socket.receive_bytes() == b"\x01\x02\x03"
        assert await socket.receive_bytes() == b"\x04\x05\x06"


async def test_attachments_are_supported_over_long_polling(client: Client) -> None:
    sid = await client.open()
    await client.post(sid, "40")
    await client.post(sid, f'451-["message",{ONE}]' + "\x1ebAQID")

    answers = ""
    while "bAQID" not in answers:
        answers += (await client.poll(sid))[1] + "\x1e"

    assert f'451-["message-back",{ONE}]\x1ebAQID' in answers


async def test_unsolicited_acknowledgement_is_ignored(client: Client) -> None:
    async with joined_socket(client) as socket:
        await socket.send_str("437[]")

        assert await lives(socket)


async def test_server_receives_the_acknowledgement(client: Client) -> None:
    async with joined_socket(client) as socket:
        [sid] = [one for one, _ in client.server.manager.get_participants("/", None)]
        answers: asyncio.Queue[str] = asyncio.Queue()
        await client.server.emit("question", to=sid, callback=answers.put)
        event = await heard(socket)
        number = event.removeprefix("42").removesuffix('["question"]')

        await socket.send_str(f'43{number}["answer"]')
        await socket.send_str(f'43{number}["again"]')

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
async def test_invalid_packet_closes_the_socket(client: Client, packet: str) -> None:
    async with joined_socket(client) as socket:
        await socket.send_str("4" + packet)

        assert await is_closed(socket)
        assert socket.close_code in (1000, 1008)


async def test_attachment_without_event_closes_the_socket(client: Client) -> None:
    async with joined_socket(client) as socket:
        await socket.send_bytes(b"x")

        assert await is_closed(socket)


async def test_text_between_attachments_closes_the_socket(client: Client) -> None:
    async with joined_socket(client) as socket:
        await socket.send_str(f'452-["message",{TWO}]')
        await socket.send_bytes(b"x")
        await socket.send_str('42["message"]')

        assert await is_closed(socket)


@pytest.mark.parametrize("number", ["1", "-1", '"0"', "null", "true", "0.0", "false", "[]"])
async def test_placeholder_without_attachment_closes_the_socket(
    client: Client, number: str
) -> None:
    async with joined_socket(client) as socket:
        await socket.send_str(f'451-["message",{{"_placeholder":true,"num":{number}}}]')
        await socket.send_bytes(b"x")

        assert await is_closed(socket)


async def test_attachments_of_an_event_are_limited_together(client: Client) -> None:
    """The server stores the attachments of a message until the last one arrives."""
    async with joined_socket(client) as socket:
        await socket.send_str(f'452-["message",{TWO}]')
        for _ in range(2):
            await socket.send_bytes(b"x" * (LONGEST // 2 + 1))

        assert await is_closed(socket)


async def test_incomplete_event_leaves_no_data(client: Client) -> None:
    async with joined_socket(client) as socket:
        [sid] = [one for one, _ in client.server.manager.get_participants("/", None)]
        await socket.send_str(f'452-["message",{TWO}]')
        await eventually(lambda: len(client.server._binary_packet) == 1)
        await client.server.disconnect(sid)

    await eventually(lambda: client.server._binary_packet == {} == client.server.environ)
