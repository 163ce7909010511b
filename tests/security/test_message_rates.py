"""Packets of a Socket.IO client are limited by socket and by address."""

from __future__ import annotations

import re
from typing import Any

import aiohttp
import pytest

from broker.infrastructure.transport.rate_limit import (
    NEW_SOCKET_FRAMES,
    SWEEP_ABOVE,
    AddressUsage,
    ClientLimits,
    TransportRateLimiter,
)
from broker.infrastructure.transport.websocket import frames
from tests.support.builders import Clock, RunningBroker, StartBroker
from tests.support.clients import PythonBrowser
from tests.support.websocket_client import masked, more, text

ENGINES = pytest.mark.parametrize("engine", ["own", "stock"])
POLLING = "/socket.io/?EIO=4&transport=polling"
FLOODS = {
    "events": text(b'42/login,1["nonsense"]'),
    "pings": masked(frames.FIN | frames.PING, b"p"),
    "pongs": masked(frames.FIN | frames.PONG),
    "heartbeats": text(b"3"),
    "connects": text(b"40/nowhere,"),
}


async def join(http: aiohttp.ClientSession) -> aiohttp.ClientWebSocketResponse:
    socket = await http.ws_connect("/socket.io/?EIO=4&transport=websocket")
    await socket.receive_str()
    await socket.send_str("40/login,")
    assert (await socket.receive_str()).startswith("40/login,")
    return socket


async def close_code_of(socket: aiohttp.ClientWebSocketResponse) -> int | None:
    """Read until the socket closes, and return the close code."""
    async with socket:
        while not socket.closed:
            await socket.receive(timeout=30)
    return socket.close_code


async def refused_count(broker: RunningBroker, limit: str) -> float:
    """Return the metric of one limit."""
    async with aiohttp.ClientSession() as http, http.get(f"{broker.admin}/metrics") as response:
        found = re.search(
            rf'scanlogin_sockets_refused_total{{limit="{limit}"}} (\S+)', await response.text()
        )
        return float(found[1]) if found else 0.0


async def open_polling(http: aiohttp.ClientSession, **options: Any) -> tuple[int, str]:
    """Return the status of a handshake, and the URL of its session."""
    async with http.get(POLLING, **options) as response:
        if response.status != 200:
            assert (await response.json())["error"] == "rate_limited"
            assert int(response.headers["Retry-After"]) > 0
            return response.status, ""
        sid = re.findall(r'"sid":"([^"]+)"', await response.text())[0]
        return response.status, f"{POLLING}&sid={sid}"


@ENGINES
@pytest.mark.parametrize("flood", FLOODS)
async def test_socket_over_its_limit_is_closed_with_1008(
    start_broker: StartBroker, engine: str, flood: str
) -> None:
    broker = await start_broker(engine=engine, socket_packets_per_minute=50)
    before = await refused_count(broker, "socket")
    async with aiohttp.ClientSession(broker.url) as http:
        socket = await join(http)

        socket._writer.transport.write(FLOODS[flood] * 100)

        assert await close_code_of(socket) == frames.POLICY
    assert await refused_count(broker, "socket") == before + 1


async def test_empty_fragments_over_the_limit_close_socket(start_broker: StartBroker) -> None:
    """The engine `stock` cannot count them: aiohttp reports whole messages only."""
    broker = await start_broker(engine="own", socket_packets_per_minute=50)
    async with aiohttp.ClientSession(broker.url) as http:
        socket = await join(http)

        socket._writer.transport.write(text(b"4", fin=False) + more(b"", fin=False) * 100)

        assert await close_code_of(socket) == frames.POLICY


@ENGINES
async def test_browser_below_limits_can_begin(start_broker: StartBroker, engine: str) -> None:
    broker = await start_broker(engine=engine, socket_packets_per_minute=5)
    browser = PythonBrowser(["websocket"])

    await browser.connect(broker.url)
    answer = await browser.emit("begin", {})
    await browser.close()

    assert "login_id" in answer


@ENGINES
async def test_post_over_limit_is_429_and_ends_session(
    start_broker: StartBroker, engine: str
) -> None:
    broker = await start_broker(engine=engine, socket_packets_per_minute=10)
    async with aiohttp.ClientSession(broker.url) as http:
        _, session = await open_polling(http)

        async with http.post(session, data="\x1e".join(["3"] * 11)) as response:
            assert response.status == 429
            assert (await response.json())["error"] == "rate_limited"

        async with http.get(session) as response:
            assert response.status == 400


@ENGINES
async def test_posts_of_one_packet_are_limited(start_broker: StartBroker, engine: str) -> None:
    broker = await start_broker(engine=engine, socket_packets_per_minute=10)
    async with aiohttp.ClientSession(broker.url) as http:
        _, session = await open_polling(http)
        statuses = []
        for _ in range(11):
            async with http.post(session, data="3") as response:
                statuses.append(response.status)

    assert statuses == [200] * 10 + [429]


@ENGINES
async def test_address_limit_closes_flooder_and_serves_other_clients(
    start_broker: StartBroker, engine: str
) -> None:
    broker = await start_broker(
        engine=engine, socket_packets_per_minute=10_000, address_packets_per_minute=100
    )
    before = await refused_count(broker, "address")
    async with aiohttp.ClientSession(broker.url) as http:
        socket = await join(http)

        socket._writer.transport.write(FLOODS["events"] * 200)

        assert await close_code_of(socket) == frames.POLICY
        assert await refused_count(broker, "address") == before + 1
    neighbour = PythonBrowser(["websocket"])
    await neighbour.connect(broker.url)
    assert "login_id" in await neighbour.emit("begin", {})
    await neighbour.close()


@ENGINES
async def test_upgraded_session_is_limited(start_broker: StartBroker, engine: str) -> None:
    broker = await start_broker(
        engine=engine, socket_packets_per_minute=50, polling_sessions_per_address=1
    )
    async with aiohttp.ClientSession(broker.url) as http:
        _, session = await open_polling(http)
        async with http.ws_connect(session.replace("=polling", "=websocket")) as socket:
            await socket.send_str("2probe")
            assert await socket.receive_str() == "3probe"
            async with http.get(session) as response:
                assert await response.text() == "6"
            await socket.send_str("5")
            await socket.send_str("40/login,")
            while not (await socket.receive_str()).startswith("40/login,"):
                continue
            assert (await open_polling(http))[
                0
            ] == 200  # the upgraded session does not count as polling

            socket._writer.transport.write(FLOODS["events"] * 100)

            assert await close_code_of(socket) == frames.POLICY


@ENGINES
async def test_polling_sessions_are_limited_by_address(
    start_broker: StartBroker, engine: str
) -> None:
    broker = await start_broker(
        engine=engine, polling_sessions_per_address=2, trusted_proxies="127.0.0.0/8"
    )
    async with aiohttp.ClientSession(broker.url) as http:

        async def open_from(address: str) -> tuple[int, str]:
            return await open_polling(http, headers={"X-Forwarded-For": address})

        _, first = await open_from("2001:db8::1")
        assert (await open_from("2001:db8::2"))[0] == 200
        assert (await open_from("2001:db8::3"))[0] == 429
        assert (await open_from("2001:db8:0:1::1"))[0] == 200

        async with http.post(first, data="1") as response:
            assert response.status == 200

        assert (await open_from("2001:db8::3"))[0] == 200


# ---- the rate limiter ----


class Sender:
    def __init__(self) -> None:
        self.address: AddressUsage | None = None
        self.full_at = 0.0
        self.received = 0


def test_bucket_refills_at_its_rate(clock: Clock) -> None:
    limiter = TransportRateLimiter(ClientLimits(60, 10_000, 1), clock=clock)
    sender = Sender()
    limiter.open(sender, "192.0.2.1", polls=False)

    assert limiter.spend(sender, 60)
    assert not limiter.spend(sender, 1)
    clock.time += 2
    assert limiter.spend(sender, 1)


def test_address_recovers_soon_after_a_flood(clock: Clock) -> None:
    limiter = TransportRateLimiter(ClientLimits(1_000_000, 60, 1), clock=clock)
    flooder, other = Sender(), Sender()
    for sender in (flooder, other):
        limiter.open(sender, "192.0.2.1", polls=False)
    assert limiter.spend(other, NEW_SOCKET_FRAMES)
    for _ in range(10_000):
        limiter.spend(flooder, 8)

    assert not limiter.spend(other, 1)
    clock.time += 2
    assert limiter.spend(other, 1)


def test_addresses_without_sockets_are_deleted(clock: Clock) -> None:
    limiter = TransportRateLimiter(ClientLimits(600, 60_000, 1), clock=clock)
    for number in range(5 * SWEEP_ABOVE):
        sender = Sender()
        limiter.open(sender, f"192.0.2.{number}", polls=True)
        limiter.spend(sender, 5)
        limiter.close(sender, polls=True)
        clock.time += 0.001

    assert len(limiter) <= SWEEP_ABOVE


def test_ended_polling_session_allows_another(clock: Clock) -> None:
    limiter = TransportRateLimiter(ClientLimits(600, 60_000, 1), clock=clock)
    first, second = Sender(), Sender()

    assert limiter.open(first, "192.0.2.1", polls=True)
    assert not limiter.open(second, "192.0.2.1", polls=True)
    limiter.close(first, polls=True)
    assert limiter.open(second, "192.0.2.1", polls=True)
