"""The lifetime of a confirmed login is extended by the duration of a Redis outage."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from broker.infrastructure.redis.downtime import Downtime
from broker.infrastructure.redis.server_clock import ServerClock
from broker.login.model import REDEEM_LIFETIME
from tests.support.builders import Clock, StartBroker
from tests.support.clients import PhoneClient, PythonBrowser
from tests.support.loop_clock import LoopClock
from tests.support.servers.redis import KEPT, REPLICA, RedisServer, redis_program, running
from tests.support.waiting import eventually

BEGIN, END = 1_000_010.0, 1_000_070.0
"""Start and end of a login's wait. The clock starts at 1 000 000."""


@pytest.fixture
def downtime(clock: Clock) -> Downtime:
    return Downtime(clock, shortest=3, timer=clock)


@pytest.mark.parametrize(
    ("write_times", "extension"),
    [
        ((0, 2, 4), 0),
        ((20, 100), 80),
        ((0, 30), 20),
        ((20, 100, 102, 170), 80 + 68),
        ((100, 200), 0),
    ],
    ids=["no gap", "gap within", "gap from before", "two gaps", "gap after the end"],
)
def test_expiry_is_extended_by_earlier_outages(
    downtime: Downtime, clock: Clock, write_times: tuple[int, ...], extension: float
) -> None:
    for at in write_times:
        clock.time = 1_000_000.0 + at
        downtime.record_write()

    assert downtime.extended(BEGIN, END) == END + extension


def test_current_outage_extends_expiry(downtime: Downtime, clock: Clock) -> None:
    clock.time = 1_000_020.0
    downtime.record_write()

    clock.time = 1_000_090.0

    assert downtime.extended(BEGIN, END) == END + 70


def test_unused_server_has_no_outage(downtime: Downtime) -> None:
    assert downtime.extended(BEGIN, END) == END


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with running(redis_program(), *KEPT) as server:
        yield server


@pytest.fixture
def replica(redis: RedisServer) -> Iterator[RedisServer]:
    with running(redis_program(), *REPLICA, str(redis.port)) as server:
        yield server


STEP = 16
"""Seconds by which the clocks move at once. A browser has 20 s to answer a PING."""


@pytest.fixture
def shared_clock(loop_clock: LoopClock, monkeypatch: pytest.MonkeyPatch) -> LoopClock:
    """The clock of the loop. That of Redis and the timer of outages move with it."""
    read = ServerClock.__call__

    def read_ahead(clock: ServerClock) -> float:
        return read(clock) + loop_clock() - time.monotonic()

    monkeypatch.setattr(ServerClock, "__call__", read_ahead)
    monkeypatch.setattr(Downtime.__init__, "__defaults__", (loop_clock,))
    return loop_clock


class Outage(NamedTuple):
    """An outage of the server, or of its replica.

    replicas: the setting of the broker.
    """

    start: Callable[[RedisServer, RedisServer], None]
    end: Callable[[RedisServer, RedisServer], None]
    replicas: int = 0


def limit_memory(server: RedisServer, size: int) -> None:
    with server.client() as client:
        client.config_set("maxmemory", size)


OUTAGES = {
    "stopped": Outage(lambda server, _: server.pause(), lambda server, _: server.resume()),
    "full": Outage(
        lambda server, _: limit_memory(server, 1), lambda server, _: limit_memory(server, 0)
    ),
    "without replica": Outage(
        lambda _, replica: replica.pause(), lambda _, replica: replica.resume(), replicas=1
    ),
}


@pytest.mark.parametrize("name", OUTAGES)
async def test_confirmed_login_survives_longer_outage(
    redis: RedisServer,
    replica: RedisServer,
    start_broker: StartBroker,
    shared_clock: LoopClock,
    name: str,
) -> None:
    outage = OUTAGES[name]
    broker = await start_broker(state_url=redis.url, replicas=outage.replicas)
    browser = PythonBrowser(["websocket"])
    await browser.connect(broker.url)
    login = await browser.emit("begin", {})
    owned = {"login_id": login["login_id"], "secret": login["secret"]}
    async with PhoneClient(broker.url) as phone:
        await phone.post("scan", {"scene": login["scene"]})
        await phone.post("confirm", {"login_id": login["login_id"]})

    outage.start(redis, replica)
    for _ in range(0, REDEEM_LIFETIME + STEP, STEP):
        shared_clock.jump(STEP)
        assert (await browser.emit("redeem", owned))["error"] == "temporarily_unavailable"
    outage.end(redis, replica)

    async def has_token() -> bool:
        return "access_token" in await browser.emit("redeem", owned)

    await eventually(has_token)
    while not browser._pushes.empty():
        assert (await browser.push())[0] != "login-expired"
    await browser.close()
