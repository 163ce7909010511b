"""Filling of pools by several instances, with each kind of state and records."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
import sqlalchemy as sa

from broker.apps.settings import AppSettings
from broker.pool.maintainer import LEASE_TTL
from broker.pool.verifier import verify_codes
from broker.records import tables as t
from tests.support.builders import SHOP, RunningBroker, StartBroker
from tests.support.commands import COMMAND
from tests.support.pool import IN_FLIGHT_MAX
from tests.support.pool_cluster import (
    POOLED,
    SIZE,
    TIMEOUT,
    Cluster,
    LogLines,
    filled,
    is_free,
    metric,
    only_memory,
    only_redis,
    soon,
)
from tests.support.servers.redis import Engines
from tests.support.waiting import eventually
from tests.support.wechat import DRAW, Pretending, pretending
from tests.support.wechat import provider_of as wechat_at

pytestmark = pytest.mark.usefixtures("long_wechat_timeouts")


async def test_new_pool_is_filled_and_free_at_once(cluster: Cluster, log_lines: LogLines) -> None:
    drawn = metric("scanlogin_pool_drawn_total") or 0
    one = await cluster.start()

    await soon(lambda: is_free(one, SIZE))

    assert await cluster.is_whole()
    assert set(cluster.counting.draws.values()) == {1}
    assert metric("scanlogin_pool_drawn_total") == drawn + SIZE
    await eventually(lambda: metric("scanlogin_pool_codes", state="free") == SIZE)
    assert metric("scanlogin_pool_low") == 0
    assert (log_lines.count("pool empty"), log_lines.count("pool recovered")) == (1, 1)


async def test_pool_grows_with_leases_up_to_its_maximum(cluster: Cluster) -> None:
    one = await cluster.start(max_size=25)
    await filled(cluster, one)

    for _ in range(SIZE):
        await one.lease()

    async def has_grown() -> bool:
        level = await one.level()
        return (level.total, level.leased) == (25, SIZE)

    await soon(has_grown)
    assert await cluster.is_whole(25)


async def test_missed_leases_are_counted_and_increase_demand(cluster: Cluster) -> None:
    before = metric("scanlogin_pool_empty_total") or 0
    one = await cluster.start(max_size=25)
    await filled(cluster, one)

    cluster.missed["shop"] += 20

    await filled(cluster, one, 25)
    assert metric("scanlogin_pool_empty_total") == before + 20


async def test_two_instances_draw_each_code_once(cluster: Cluster, wechat: Pretending) -> None:
    cluster.make = lambda: wechat_at(wechat.url)
    one, two = (
        await cluster.start("one", min_size=40, max_size=40),
        await cluster.start("two", min_size=40, max_size=40),
    )

    await soon(lambda: is_free(two, 40))
    await soon(lambda: is_free(one, 40))

    # A draw that timed out is repeated. Without a leader there would be far more draws.
    assert 40 <= wechat.wechat.calls[DRAW] < 45
    assert await cluster.is_whole(40)


async def test_stopped_leader_is_replaced_at_once(cluster: Cluster) -> None:
    one = await cluster.start("one")
    await filled(cluster, one)
    await one.end()

    two = await cluster.start("two", min_size=15, max_size=15)

    await filled(cluster, two, 15)
    assert await cluster.is_whole(15)


async def test_instance_without_leader_lease_draws_no_code(cluster: Cluster) -> None:
    cluster.apps.apps = {"shop": SHOP}
    one = await cluster.start()
    await one.store.leader_leases.acquire("pool:shop", "another", seconds=600)

    cluster.apps.apps = {"shop": POOLED}
    await eventually(lambda: metric("scanlogin_pool_codes", state="free") == 0)
    await one.wait_for_round()
    assert await cluster.codes.counts() == []

    await one.store.leader_leases.release("pool:shop", "another")
    await filled(cluster, one)


@only_memory
async def test_leader_without_database_is_replaced(cluster: Cluster, log_lines: LogLines) -> None:
    records, cluster.records = cluster.records, "sqlite+aiosqlite:////nowhere/records.db"
    await cluster.start("one")
    await eventually(lambda: log_lines.count("pool maintenance failed"), within=TIMEOUT)

    cluster.records = records
    await filled(cluster, await cluster.start("two"))


async def test_pool_follows_changes_of_code_source(
    cluster: Cluster,
) -> None:
    cluster.apps.apps = {"shop": SHOP}
    one = await cluster.start()
    await one.wait_for_round()
    assert await cluster.ready() == {}

    cluster.apps.apps = {"shop": POOLED}
    await filled(cluster, one)

    cluster.apps.apps = {}
    await eventually(lambda: metric("scanlogin_pool_codes", state="free") is None)
    assert await one.store.leader_leases.acquire("pool:shop", "another", seconds=1)


@only_memory
async def test_failure_of_one_app_does_not_affect_others(
    cluster: Cluster, log_lines: LogLines
) -> None:
    cluster.apps.apps["odd"] = replace(POOLED, id="odd", provider="unknown")

    one = await cluster.start()

    await filled(cluster, one)
    await eventually(lambda: log_lines.count("pool refill failed") == 1)
    assert "the provider unknown" in log_lines.reasons("pool refill failed")[0]


@pytest.fixture
async def wechat() -> AsyncIterator[Pretending]:
    async with pretending() as there:
        yield there


# --- whole brokers


async def test_broker_fills_the_pool_of_its_default_app(
    start_broker: StartBroker, records_file: Path
) -> None:
    broker: RunningBroker = await start_broker(code_source="pool", pool_size=3)

    def ready() -> int:
        with closing(sqlite3.connect(records_file)) as database:
            [(count,)] = database.execute("SELECT count(*) FROM codes WHERE drawn_at > 0")
        return int(count)

    await eventually(lambda: ready() == 3, within=TIMEOUT)
    assert broker.settings[AppSettings].code_source == "pool"


@only_redis
async def test_codes_of_killed_broker_are_drawn_by_another(
    cluster: Cluster, wechat: Pretending, tmp_path: Path, engines: Engines
) -> None:
    size = 150
    settings = wechat.settings(
        records_url=cluster.records,
        pictures_url=cluster.pictures.location,
        state_url=cluster.url,
        seal_file=tmp_path / "seal.json",
        key_file=tmp_path / "keys.json",
        code_source="pool",
        pool_size=size,
        pool_per_minute=1500,
        admin_port=0,
        port=0,
    )
    brokers = {
        name: subprocess.Popen(
            [*COMMAND, "serve"],
            cwd=tmp_path,
            env={
                **os.environ,
                **{f"SCAN_LOGIN_{n.upper()}": str(v) for n, v in settings.items()},
                "SCAN_LOGIN_INSTANCE": name,
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for name in ("one", "two")
    }
    try:

        async def some_are_ready() -> bool:
            return await cluster.codes.count("default") > 20

        await eventually(some_are_ready, within=60)
        with engines.nodes("redis")[0].client() as client:
            holder = bytes(client.get("scanlogin:duty:{pool:default}")).decode()
        brokers[holder].kill()
        brokers[holder].wait()
        async with aiohttp.ClientSession(wechat.url) as http:  # until earlier requests have ended
            await http.get("/pretend/calls")
        left, drawn = await cluster.codes.count("default"), wechat.wechat.calls[DRAW]
        assert left < size
        assert drawn <= left + IN_FLIGHT_MAX

        async def is_continued() -> bool:
            return await cluster.codes.count("default") > left

        async def is_filled() -> bool:
            return await cluster.codes.count("default") == size

        await eventually(is_continued, within=LEASE_TTL + 10)
        async with cluster.database.write_transaction() as connection:  # expire the reservations
            await connection.execute(sa.update(t.codes).values(reserved_until=0))
        await eventually(is_filled, within=TIMEOUT)

        assert wechat.wechat.calls[DRAW] == drawn + size - left
        assert not await verify_codes(codes=cluster.codes, pictures=cluster.pictures, app="default")
        async with cluster.database.read_connection() as connection:
            scenes = list(await connection.scalars(sa.select(t.codes.c.scene)))
        assert len(set(scenes)) == size
    finally:
        for broker in brokers.values():
            broker.kill()
            broker.wait()
