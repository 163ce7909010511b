"""An outage of Redis that outlasts a confirmed login: the login gets the time back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from broker.infrastructure.redis.downtime import Downtime
from broker.state.redis import logins
from tests.support.builders import Clock, StartBroker
from tests.support.clients import PhoneClient, PythonBrowser
from tests.support.servers.redis import KEPT, RedisServer, redis_program, running
from tests.support.waiting import eventually

LONG = 30.0
"""Seconds that a busy machine gets."""

BEGIN, END = 1_000_010.0, 1_000_070.0
"""Of a login's wait, by the clock that begins at 1 000 000."""


@pytest.fixture
def downtime(clock: Clock) -> Downtime:
    return Downtime(clock, shortest=3, timer=clock)


@pytest.mark.parametrize(
    ("worked", "later"),
    [
        ((0, 2, 4), 0),
        ((20, 100), 80),
        ((0, 30), 20),
        ((20, 100, 102, 170), 80 + 68),
        ((100, 200), 0),
    ],
    ids=["no gap", "gap within", "gap from before", "two gaps", "gap after the end"],
)
def test_end_is_later_by_the_gaps_before_it(
    downtime: Downtime, clock: Clock, worked: tuple[int, ...], later: float
) -> None:
    for at in worked:
        clock.time = 1_000_000.0 + at
        downtime.record_write()

    assert downtime.extended(BEGIN, END) == END + later


def test_unfinished_gap_counts(downtime: Downtime, clock: Clock) -> None:
    clock.time = 1_000_020.0
    downtime.record_write()

    clock.time = 1_000_090.0

    assert downtime.extended(BEGIN, END) == END + 70


def test_server_that_never_answered_has_no_gap(downtime: Downtime) -> None:
    assert downtime.extended(BEGIN, END) == END


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with running(redis_program(), *KEPT) as server:
        yield server


SHORT = 4
"""Seconds that a confirmed login waits here, so that the test need not stop Redis for 60 s."""


def stop(server: RedisServer) -> None:
    server.pause()


def fill(server: RedisServer) -> None:
    with server.client() as client:
        client.config_set("maxmemory", 1)


def empty(server: RedisServer) -> None:
    with server.client() as client:
        client.config_set("maxmemory", 0)


OUTAGES = {"stopped": (stop, RedisServer.go_on), "full": (fill, empty)}


@pytest.mark.parametrize("outage", OUTAGES)
async def test_confirmed_login_outlasts_a_longer_outage(
    redis: RedisServer, start_broker: StartBroker, monkeypatch: pytest.MonkeyPatch, outage: str
) -> None:
    begins, ends = OUTAGES[outage]
    monkeypatch.setattr("broker.login.model.REDEEM_LIFETIME", SHORT)
    lifetimes = dict.fromkeys(logins.STATE_LIFETIMES, SHORT)
    monkeypatch.setattr(logins, "STATE_LIFETIMES", lifetimes)
    broker = await start_broker(state_url=redis.url)
    browser = PythonBrowser(["websocket"])
    await browser.connect(broker.url)
    begun = await browser.emit("begin", {})
    owned = {"login_id": begun["login_id"], "secret": begun["secret"]}
    async with PhoneClient(broker.url) as phone:
        await phone.post("scan", {"scene": begun["scene"]})
        await phone.post("confirm", {"login_id": begun["login_id"]})
    expires_at = time.time() + SHORT

    begins(redis)
    await eventually(lambda: time.time() > expires_at + 1, within=LONG)
    assert (await browser.emit("redeem", owned))["error"] == "temporarily_unavailable"
    ends(redis)

    async def has_token() -> bool:
        return "access_token" in await asyncio.wait_for(browser.emit("redeem", owned), LONG)

    await eventually(has_token, within=LONG)
    while not browser._heard.empty():
        assert (await browser.push())[0] != "login-expired"
    await browser.close()
