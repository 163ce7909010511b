"""Random packets raise no error in the server, leave no data, and close no other connection."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, suppress
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.engineio_client import SEPARATOR, Client, client_of, join, lives
from tests.support.waiting import eventually
from tests.support.websocket_client import masked, raw_transport

FUZZ = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

json_texts = st.sampled_from(
    [
        "",
        "{}",
        "[]",
        '["message"]',
        '["message-with-ack",1]',
        '["connect",{}]',
        '["message",{"_placeholder":true,"num":0}]',
        '[["message"]]',
        "[" * 2000,
        "null",
        '{"token":1}',
        '"text"',
        "1e999",
        "NaN",
    ]
) | st.text(max_size=10)
socket_io_packets = st.builds(
    "{}{}{}{}{}".format,
    st.integers(0, 9),
    st.sampled_from(["", "", "", "1-", "2-", "0-", "99-", "-"]),
    st.sampled_from(
        ["", "", "/custom,", "/custom", "/nowhere,", "/" + "n" * 80 + ",", "/,", "/?,"]
    ),
    st.sampled_from(["", "", "7", "0", "9" * 120, "x"]),
    json_texts,
)
packets = st.one_of(
    socket_io_packets.map("4{}".format),
    socket_io_packets.map("4{}".format),
    st.sampled_from(["", "0", "1", "2", "2probe", "3", "5", "6", "40", "40/custom,", "41", "\0"]),
    st.text(max_size=20),
    st.binary(max_size=20),
)
raw_frames = st.builds(masked, st.integers(0, 255), st.binary(max_size=130))


class FuzzedServer:
    """A server in an event loop that hypothesis can use for each example."""

    def __init__(self, runner: asyncio.Runner, client: Client, failures: list[Any]) -> None:
        self._runner = runner
        self.client = client
        self.failures = failures

    def __call__(self, act: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(act)


@pytest.fixture
def fuzzed() -> Iterator[FuzzedServer]:
    failures: list[Any] = []
    with asyncio.Runner() as runner:
        runner.get_loop().set_exception_handler(lambda loop, about: failures.append(about))
        stack = AsyncExitStack()
        peer = client_of("sio", ping_interval=3600.0, ping_timeout=20.0)
        yield FuzzedServer(runner, runner.run(stack.enter_async_context(peer)), failures)
        runner.run(stack.aclose())
    assert failures == []


async def remaining_data(client: Client) -> dict[str, Any]:
    """Return the data of the server after all connections have closed; it should be empty."""
    engine, server = client.server.eio, client.server
    tables = [engine.sockets, engine.sessions.inboxes, engine.sessions.heartbeat, server.environ]
    tables += [server._binary_packet, server.manager._namespaces, server.manager.callbacks]
    with suppress(TimeoutError):
        await eventually(lambda: not any(map(len, tables)))
    return {str(place): table for place, table in enumerate(tables) if len(table)}


async def by_websocket(client: Client, sent: list[str | bytes]) -> None:
    async with client.opened() as socket:
        await socket.send_str("40")
        for packet in sent:
            try:
                if isinstance(packet, bytes):
                    await socket.send_bytes(packet)
                else:
                    await socket.send_str(packet)
            except (ConnectionError, aiohttp.ClientError):
                break
        await socket.close()


async def by_polling(client: Client, sent: list[str]) -> None:
    sid = await client.open()
    for body in ["40", SEPARATOR.join(sent), *sent, "1"]:
        assert (await client.post(sid, body.encode()))[0] in (200, 400)


async def by_frames(client: Client, sent: list[bytes]) -> None:
    async with client.opened() as socket:
        transport = raw_transport(socket)
        for frame in sent:
            transport.write(frame)
            await asyncio.sleep(0)
        transport.abort()


async def by_upgrade(client: Client, posted: list[str], probed: list[str]) -> None:
    sid = await client.open()
    async with client.connect(sid) as socket:
        for packet in ["2probe", *probed, "5", "4x"]:
            try:
                await socket.send_str(packet)
            except (ConnectionError, aiohttp.ClientError):
                break
        await client.post(sid, SEPARATOR.join(posted).encode())
    await client.post(sid, "1")


@pytest.mark.parametrize("transport_name", ["websocket", "polling", "frames", "upgrade"])
def test_random_packets_leave_server_usable_and_empty(
    fuzzed: FuzzedServer, transport_name: str
) -> None:
    lists = st.lists(packets, max_size=6)
    texts = st.lists(packets.filter(lambda packet: isinstance(packet, str)), max_size=5)
    acts = {
        "websocket": st.tuples(st.just(by_websocket), lists),
        "polling": st.tuples(st.just(by_polling), texts),
        "frames": st.tuples(st.just(by_frames), st.lists(raw_frames, max_size=6)),
        "upgrade": st.tuples(st.just(by_upgrade), texts, texts),
    }

    @FUZZ
    @given(act=acts[transport_name])
    def send(act: Any) -> None:
        do, *sent = act
        fuzzed(do(fuzzed.client, *sent))
        assert fuzzed(lives(other_socket)) is True
        assert fuzzed.failures == []

    stack = AsyncExitStack()
    other_socket = fuzzed(stack.enter_async_context(fuzzed.client.connect()))
    fuzzed(other_socket.receive_str())
    fuzzed(join(other_socket))
    send()
    fuzzed(stack.aclose())

    assert fuzzed(remaining_data(fuzzed.client)) == {}
