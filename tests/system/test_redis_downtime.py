"""The lifetime of a confirmed login is extended by the duration of a Redis outage."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from broker.infrastructure.redis.downtime import Downtime
from broker.login import lobby, rules
from broker.state.redis import logins
from tests.support.builders import Clock, StartBroker
from tests.support.clients import PhoneClient, PythonBrowser
from tests.support.servers.redis import KEPT, REPLICA, RedisServer, redis_program, running
from tests.support.waiting import eventually

LONG = 30.0
"""Seconds. A limit that also a busy machine keeps."""

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


SHORT = 6
"""Lifetime of a confirmed or redeemed login in seconds, shorter than the real 60 s."""

LIFETIMES = {rules: ["REDEEM_LIFETIME", "REDELIVERY_LIFETIME"], lobby: ["REDEEM_LIFETIME"]}
"""The names of these lifetimes, by module."""


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


@pytest.fixture
def short_lifetimes(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, names in LIFETIMES.items():
        for name in names:
            monkeypatch.setattr(module, name, SHORT)
    monkeypatch.setattr(logins, "STATE_LIFETIMES", dict.fromkeys(logins.STATE_LIFETIMES, SHORT))


@pytest.mark.usefixtures("short_lifetimes")
@pytest.mark.parametrize("name", OUTAGES)
async def test_confirmed_login_survives_longer_outage(
    redis: RedisServer, replica: RedisServer, start_broker: StartBroker, name: str
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
    expires_at = time.time() + SHORT

    outage.start(redis, replica)
    unavailable = [await browser.emit("redeem", owned)]
    await eventually(lambda: time.time() > expires_at + 1, within=LONG)
    unavailable.append(await browser.emit("redeem", owned))
    outage.end(redis, replica)

    async def has_token() -> bool:
        return "access_token" in await asyncio.wait_for(browser.emit("redeem", owned), LONG)

    await eventually(has_token, within=LONG)
    assert [answer["error"] for answer in unavailable] == ["temporarily_unavailable"] * 2
    while not browser._pushes.empty():
        assert (await browser.push())[0] != "login-expired"
    await browser.close()
