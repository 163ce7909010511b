"""A client leaves a bounded amount of data in memory."""

from __future__ import annotations

import asyncio
import gc
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp.http import HttpProcessingError

from broker.identity.model import Identity, Phone
from broker.infrastructure.transport.engineio.polling import (
    POLLING_BACKLOG_BYTES,
    PollingSession,
)
from broker.infrastructure.transport.engines import open_server
from broker.infrastructure.transport.socketio.server import SocketIOServer as Server
from broker.infrastructure.transport.websocket.connection import CloseReason
from broker.pool.model import OfferedCode
from broker.sessions.model import Session
from broker.state.memory.code_leases import MemoryCodeLeases
from broker.state.memory.expiring_map import SPARE_ENDS, ExpiringMap
from broker.state.memory.sessions import MemorySessionStore
from tests.support.builders import Clock, StartBroker
from tests.support.websocket_client import RecordingHandler

POLLING = "/socket.io/?EIO=4&transport=polling"
BAD_EVENTS = "\x1e".join(['42/login,1["nonsense"]'] * 16)


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> list[Server]:
    """The Socket.IO servers of the brokers that the test starts."""
    opened: list[Server] = []

    def recording_open(*arguments: Any, **options: Any) -> Server:
        opened.append(open_server(*arguments, **options))
        return opened[-1]

    monkeypatch.setattr("broker.app.open_server", recording_open)
    return opened


@pytest.fixture
def reference_counts() -> Iterator[None]:
    """Disable the garbage collector, so that a reference cycle is not freed."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("reference_counts")
@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nX: ",
        b"CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
    ],
    ids=["long header", "connect", "upgrade"],
)
async def test_malformed_request_leaves_no_data_in_memory(
    start_broker: StartBroker, head: bytes
) -> None:
    address = urlsplit((await start_broker()).url)
    for _ in range(4):
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(head)
        with suppress(ConnectionError):
            for _ in range(16):
                writer.write(b"X" * 65_536)
                await writer.drain()
        with suppress(ConnectionError):
            while await reader.read(65_536):
                pass
        writer.close()

    errors = [error for error in gc.get_objects() if isinstance(error, HttpProcessingError)]
    assert not [error for error in errors if error.__traceback__ or len(error.message) > 1_000]


async def test_session_without_polls_has_bounded_backlog_and_ends(
    start_broker: StartBroker, servers: list[Server]
) -> None:
    broker = await start_broker(engine="own", socket_packets_per_minute=1_000_000)
    async with aiohttp.ClientSession(broker.url) as http:
        async with http.get(POLLING) as response:
            sid = re.findall(r'"sid":"([^"]+)"', await response.text())[0]
        url = f"{POLLING}&sid={sid}"
        async with http.post(url, data="40/login,") as response:
            assert response.status == 200
        sockets = servers[0].eio.sockets
        most, status = 0, 200
        while status == 200:
            if socket := sockets.get(sid):
                most = max(most, sum(map(len, socket._write_queue)))
            async with http.post(url, data=BAD_EVENTS) as response:
                status = response.status

    assert 0 < most <= POLLING_BACKLOG_BYTES + 1024
    assert sockets == {}
    assert len(servers[0].eio.sessions.inboxes) == 0


async def test_large_packet_and_later_ones_wait_for_poll() -> None:
    image = "4" + "x" * 500_000
    polling = PollingSession(RecordingHandler(), "sid")

    for packet in ("2", image, "4scanned"):
        polling.send(packet)

    assert not polling.closed
    assert await polling.poll() == f"2\x1e{image}\x1e4scanned"


async def test_second_consecutive_large_packet_ends_session() -> None:
    handler = RecordingHandler()
    polling = PollingSession(handler, "sid")

    for _ in range(2):
        polling.send("4" + "x" * 500_000)

    assert polling.closed
    assert handler.closed == [CloseReason.ERROR]


def test_store_deletes_expiry_times_of_removed_entries(clock: Clock) -> None:
    entries: ExpiringMap[str] = ExpiringMap(clock)
    for number in range(10_000):
        entries.put(f"key {number}", "value", clock() + 2_592_000)
        entries.remove(f"key {number}")
    for _ in range(10_000):
        entries.put("kept", "value", clock() + 2_592_000)

    assert len(entries._ends) <= 2 * len(entries) + SPARE_ENDS


def test_compacted_store_still_expires_entries(clock: Clock) -> None:
    entries: ExpiringMap[int] = ExpiringMap(clock)
    for number in range(1_000):
        entries.put(f"short {number}", number, clock() + 10)
        entries.put(f"long {number}", number, clock() + 10)
        entries.put(f"long {number}", number, clock() + 1_000)
        for _ in range(5):
            entries.put("other", number, clock() + 1_000)

    clock.time += 20
    entries.put("last", 0, clock() + 10)

    assert len(entries) == 1_002
    assert entries.get("long 7") == 7
    assert entries.get("short 7") is None


async def test_ended_sessions_leave_nothing_in_memory(clock: Clock) -> None:
    sessions = MemorySessionStore(clock)
    for number in range(10_000):
        phone = Phone("shop", Identity("pretend", f"person {number}"))
        session = Session(
            id=f"session {number}",
            skey_hash=b"hash",
            phone=phone,
            expires_at=clock() + 100,
            latest_end=clock() + 1_000,
        )
        await sessions.put(session)
        await sessions.extend(session, clock() + 5_000)
        await sessions.end(phone, session.id)

    for entries in (sessions._sessions, sessions._ids):
        assert len(entries) == 0
        assert len(entries._ends) <= SPARE_ENDS


async def test_returned_codes_leave_few_expiry_times_in_memory(clock: Clock) -> None:
    leases = MemoryCodeLeases(clock)
    await leases.offer("shop", [OfferedCode(number=0, drawing=1, scene="scene", picture="key")])
    for _ in range(5_000):
        leased = await leases.lease("shop", until=clock() + 86_400, cooldown=1)
        assert leased is not None
        await leases.return_code("shop", 0, leased.generation, cooldown=1)
        clock.time += 2

    assert len(leases._pools["shop"]._free_times) <= 2 + SPARE_ENDS
