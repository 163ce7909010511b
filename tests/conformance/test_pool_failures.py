"""Maintenance of pools during failures of providers, stores and databases."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing

import pytest

from broker.blobs.pictures import ObjectPictureStore
from broker.identity.errors import ProviderUnavailable
from broker.identity.ports import CodePicture, Provider
from broker.pool.filler import RESERVATION_TIMEOUT
from broker.pool.model import CodeKey
from broker.pool.requested_fills import ERROR_TTL, RequestedFills
from broker.providers.pretend import PretendProvider
from tests.support.pool import PUBLIC
from tests.support.pool_cluster import (
    POOLED,
    SIZE,
    TIMEOUT,
    Cluster,
    Instance,
    LogLines,
    filled,
    only_memory,
    only_redis,
    soon,
)
from tests.support.servers.postgres import PostgresServer
from tests.support.servers.s3 import running_s3
from tests.support.waiting import eventually
from tests.support.wechat import DRAW, Pretending, pretending
from tests.support.wechat import provider_of as wechat_at

pytestmark = pytest.mark.usefixtures("long_wechat_timeouts")


@pytest.fixture
async def wechat() -> AsyncIterator[Pretending]:
    async with pretending() as there:
        yield there


@only_redis
async def test_wechat_outage_is_logged_once_until_recovery(
    cluster: Cluster, wechat: Pretending, log_lines: LogLines
) -> None:
    cluster.make = lambda: wechat_at(wechat.url)
    wechat.wechat.faults.set(DRAW, "45009")
    one = await cluster.start()
    await eventually(lambda: log_lines.count("pool refill failed"), within=TIMEOUT)

    wechat.wechat.faults.set(DRAW, "503", 2)  # one every 5 s: the breaker is open
    await filled(cluster, one)

    assert await cluster.is_whole()
    await eventually(lambda: log_lines.count("pool refill recovered") == 1)
    assert not error_of(one)
    assert ["45009" in reason for reason in log_lines.reasons("pool refill failed")] == [True]


@only_memory
async def test_picture_store_outage_is_retried(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, log_lines: LogLines
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    with running_s3() as server:
        server.make_bucket("pictures")
        server.stop()
        cluster.pictures = ObjectPictureStore(
            "s3://pictures", public_url=PUBLIC, endpoint=server.url
        )
        one = await cluster.start()
        await eventually(lambda: log_lines.count("pool refill failed"), within=TIMEOUT)
        assert (await one.level()).total == 0

        server.start()
        server.make_bucket("pictures")
        await filled(cluster, one)

        assert await cluster.is_whole()
    assert "picture store s3://pictures:" in log_lines.reasons("pool refill failed")[0]


@only_memory
async def test_locked_database_file_is_retried(cluster: Cluster, log_lines: LogLines) -> None:
    with closing(
        sqlite3.connect(cluster.records.partition(":///")[2], isolation_level=None)
    ) as other:
        other.execute("BEGIN IMMEDIATE")
        cluster.statement_timeout = 1
        one = await cluster.start()
        await eventually(lambda: log_lines.count("pool refill failed"), within=TIMEOUT)
        other.execute("ROLLBACK")

    await filled(cluster, one)
    assert await cluster.is_whole()


@only_redis
async def test_database_outage_is_retried(
    cluster: Cluster, stoppable_postgres: PostgresServer, log_lines: LogLines
) -> None:
    one = await cluster.start()
    await filled(cluster, one)

    stoppable_postgres.stop()
    await eventually(lambda: log_lines.count("pool maintenance failed"), within=TIMEOUT)
    assert await one.lease() is not None
    assert error_of(one)
    stoppable_postgres.revive()
    await eventually(lambda: log_lines.count("pool maintenance recovered"), within=TIMEOUT)
    assert not error_of(one)

    one.codes_to_retire.add(CodeKey("shop", 3, 0))

    async def is_redrawn() -> bool:
        codes = await cluster.ready()
        return 3 in codes and codes[3].drawing == 1

    await soon(is_redrawn)
    assert log_lines.count("pool maintenance failed") == 1


class FailingProvider(PretendProvider):
    """A provider that raises an unexpected exception."""

    async def draw(self, scene: str) -> CodePicture:
        raise RuntimeError("canary")


@only_memory
async def test_unexpected_provider_failure_is_logged_and_filling_resumes(
    cluster: Cluster, log_lines: LogLines
) -> None:
    cluster.make = lambda: FailingProvider(phone_page_url="http://phone.example/")
    one = await cluster.start()
    await eventually(lambda: log_lines.count("task failed"), within=TIMEOUT)

    await one.end()
    cluster.make = lambda: cluster.counting
    cluster.clock.time += RESERVATION_TIMEOUT
    await filled(cluster, await cluster.start("two"))


def error_of(instance: Instance) -> str:
    """Return why the last refill failed; empty before the first round, too."""
    report = instance.scheduler.reports().get("shop")
    return report.error if report else ""


def no_provider() -> Provider:
    raise ProviderUnavailable("down", 1)


@only_memory
async def test_instance_without_leader_lease_reports_no_failure(cluster: Cluster) -> None:
    cluster.make = no_provider
    one = await cluster.start()
    await eventually(lambda: error_of(one), within=TIMEOUT)

    leases = one.store.leader_leases
    await leases.release("pool:shop", "one")
    assert await leases.acquire("pool:shop", "two", seconds=3_600)

    await eventually(lambda: not error_of(one), within=TIMEOUT)


async def refuse(scene: str) -> None:
    raise ProviderUnavailable("no more codes", 60, retryable=False)


@only_memory
async def test_failed_requested_fill_is_reported_until_success(cluster: Cluster) -> None:
    one = await cluster.start(min_size=0, max_size=0)
    fills = RequestedFills(one.scheduler._dependencies)
    cluster.counting.before_draw = refuse
    await fills.start(POOLED, SIZE)
    await eventually(lambda: fills.error(POOLED, None), within=TIMEOUT)

    failed_at = cluster.clock()
    assert fills.error(POOLED, failed_at - 60)
    assert not fills.error(POOLED, failed_at + 60)  # the scheduler has refilled the pool
    cluster.clock.time += ERROR_TTL
    assert not fills.error(POOLED, None)
    await fills.close()


@only_memory
async def test_drawing_resumes_after_the_clock_is_set_back(
    cluster: Cluster, log_lines: LogLines
) -> None:
    cluster.timer, cluster.make = time.monotonic, no_provider
    one = await cluster.start()
    await eventually(lambda: log_lines.count("pool refill failed"), within=TIMEOUT)

    cluster.clock.time -= 3_600
    cluster.make = lambda: cluster.counting

    await filled(cluster, one)
