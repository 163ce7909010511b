"""Many packets of one client are handled in small steps; other clients are served in between."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator

import aiohttp
import pytest

from broker.infrastructure.api.errors import ERRORS
from broker.infrastructure.transport.step_queue import STEP_SIZE, STEPS_PER_ITERATION, StepQueue
from broker.infrastructure.transport.websocket import frames
from broker.infrastructure.transport.websocket.connection import WebSocketConnection
from tests.support.builders import StartBroker
from tests.support.engineio_client import Client, client_of
from tests.support.waiting import eventually
from tests.support.websocket_client import (
    ASKS,
    RecordingHandler,
    Transport,
    Wire,
    handshake,
    masked,
    more,
    read_sent,
    text,
    url_of,
)

MANY = 400
NO_LIMITS = {
    "socket_packets_per_minute": 100_000_000,
    "address_packets_per_minute": 100_000_000,
    "begins_per_minute": 1_000_000,
}
PING = masked(frames.FIN | frames.PING, b"p")
PONG = masked(frames.FIN | frames.PONG)
FLOODS = {
    "messages": (text(b"4x"), MANY),
    "pings": (PING, MANY),
    "pongs": (PONG, MANY),
    "heartbeats": (text(b"3"), MANY),
    "empty fragments": (more(b"", fin=False), MANY),
}


class CountingHandler(RecordingHandler):
    """Counts the frames of all its sockets by iteration of the event loop."""

    def __init__(self) -> None:
        super().__init__()
        self.iteration = 0
        self.by_iteration: Counter[int] = Counter()
        self.order: list[int] = []
        self.sockets: list[WebSocketConnection] = []

    def on_frames(self, connection: object, count: int) -> bool:
        self.by_iteration[self.iteration] += count
        self.order += [self.sockets.index(connection)] * bool(count)  # type: ignore[arg-type]
        return True

    def add(self) -> WebSocketConnection:
        self.sockets.append(WebSocketConnection(self, Transport()))  # type: ignore[arg-type]
        return self.sockets[-1]

    async def run_steps(self) -> None:
        while any(socket._is_queued for socket in self.sockets):
            self.iteration += 1
            await asyncio.sleep(0)


@pytest.mark.parametrize("flood", FLOODS)
async def test_frames_of_one_read_are_handled_in_steps(flood: str) -> None:
    frame, count = FLOODS[flood]
    engine = CountingHandler()
    socket = engine.add()
    if flood == "empty fragments":
        socket.data_received(text(b"4", fin=False))
    engine.by_iteration.clear()

    socket.data_received(frame * count)
    assert engine.by_iteration[0] == STEP_SIZE
    await engine.run_steps()

    assert sum(engine.by_iteration.values()) == count
    assert max(engine.by_iteration.values()) == STEP_SIZE


async def test_flooding_sockets_share_each_iteration_fairly() -> None:
    engine = CountingHandler()
    sockets = [engine.add() for _ in range(8)]

    for socket in sockets:
        socket.data_received(PING * MANY)
    engine.by_iteration.clear()
    engine.order.clear()
    await engine.run_steps()

    assert sum(engine.by_iteration.values()) == 8 * (MANY - STEP_SIZE)
    assert max(engine.by_iteration.values()) <= STEP_SIZE * STEPS_PER_ITERATION
    assert engine.order == [*range(8)] * ((MANY - STEP_SIZE) // STEP_SIZE)


async def test_few_frames_are_handled_at_once() -> None:
    engine = CountingHandler()
    socket = engine.add()

    socket.data_received(PING * STEP_SIZE)

    assert engine.by_iteration == {0: STEP_SIZE}
    assert len(engine.steps) == 0
    assert not socket._is_queued


async def test_bytes_received_during_steps_keep_order() -> None:
    engine = CountingHandler()
    socket = engine.add()
    numbered = [text(b"4%d" % number) for number in range(MANY)]
    whole = b"".join(numbered)

    socket.data_received(whole[:1001])
    socket.data_received(whole[1001:])
    await engine.run_steps()

    assert engine.messages == [f"4{number}" for number in range(MANY)]


async def test_frames_after_a_violation_are_not_handled() -> None:
    engine = CountingHandler()
    socket = engine.add()

    socket.data_received(PING * 20 + masked(0x83) + PING * MANY)
    await engine.run_steps()
    await asyncio.sleep(0)

    sent = [*read_sent(socket._transport.written)]  # type: ignore[attr-defined]
    assert len(sent) == 21
    assert sent[-1] == (frames.CLOSE, frames.PROTOCOL_ERROR.to_bytes(2, "big"))
    assert len(engine.closed) == 1


async def test_failing_step_does_not_stop_other_steps() -> None:
    steps, ran_last = StepQueue(), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: None)

    steps.add(fails)
    for _ in range(5):
        steps.add(lambda: None)
    steps.add(ran_last.set)

    async with asyncio.timeout(30):
        await ran_last.wait()


def fails() -> None:
    raise ValueError


# ---- messages with other requests in between ----


@pytest.fixture
async def echo() -> AsyncIterator[Client]:
    async with client_of("eio", ping_interval=25.0, ping_timeout=20.0) as client:
        yield client


async def count_iterations(counted: list[int]) -> None:
    """Count the iterations of the event loop in the first entry."""
    while True:
        counted[0] += 1
        await asyncio.sleep(0)


@pytest.mark.parametrize("transport", ["websocket", "polling"])
async def test_messages_of_one_client_are_handled_in_steps(echo: Client, transport: str) -> None:
    iteration, handled = [0], Counter[int]()

    async def message(sid: str, data: object) -> None:
        handled[iteration[0]] += 1

    echo.server.on("message", message)
    at_most = STEP_SIZE * (1 + STEPS_PER_ITERATION)  # the first step runs at once
    ticking = asyncio.create_task(count_iterations(iteration))
    if transport == "polling":
        assert await echo.post(await echo.open(), "\x1e".join(["4x"] * 1000)) == (200, "ok")
    else:
        wire = await Wire.to(url_of(echo))
        wire.write(handshake(*ASKS) + text(b"4x") * 1000)
        async with asyncio.timeout(30):
            while sum(handled.values()) < 1000:
                await asyncio.sleep(0)
        wire.close()
    ticking.cancel()

    assert sum(handled.values()) == 1000
    assert max(handled.values()) <= at_most


async def test_malformed_packet_closes_flooding_socket(
    start_broker: StartBroker,
) -> None:
    broker = await start_broker(**NO_LIMITS)
    async with (
        aiohttp.ClientSession(broker.url) as http,
        http.ws_connect("/socket.io/?EIO=4&transport=websocket") as socket,
    ):
        await socket.receive_str()
        await socket.send_str("40/login,")
        assert (await socket.receive_str()).startswith("40/login,")
        socket._writer.transport.write(text(b"4x") * MANY)

        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE


@pytest.mark.parametrize("engine", ["own", "stock"])
async def test_health_is_answered_while_eight_sockets_flood(
    start_broker: StartBroker, engine: str
) -> None:
    broker = await start_broker(engine=engine, **NO_LIMITS)
    async with aiohttp.ClientSession(broker.url) as http:
        sockets = [await join(http) for _ in range(8)]
        flood = b"".join(text(b'42/login,["nonsense"]') + PING for _ in range(2 * MANY))
        for socket in sockets:
            socket._writer.transport.write(flood)
        total, before = 8 * 2 * MANY, events_answered()

        async with http.get("/health/live") as response:
            assert response.status == 200
        assert events_answered() - before <= total / 10  # the events of about eight iterations

        await eventually(lambda: events_answered() - before >= total, within=60)
        for socket in sockets:
            await socket.close()


def events_answered() -> int:
    """Return the count of answers to unknown events."""
    return int(ERRORS.labels("invalid_request")._value.get())


async def join(http: aiohttp.ClientSession) -> aiohttp.ClientWebSocketResponse:
    socket = await http.ws_connect("/socket.io/?EIO=4&transport=websocket")
    await socket.receive_str()
    await socket.send_str("40/login,")
    assert "sid" in json.loads((await socket.receive_str()).partition(",")[2])
    return socket
