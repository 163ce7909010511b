"""Replacement of aged and overused codes, and deletion of pools."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from broker.apps.rules import LIFETIME_MAX
from broker.login.ports import LOGIN_RETENTION
from broker.pool.dependencies import CLOCK_SKEW_OVERLAP
from broker.pool.maintainer import CLEANUP_INTERVAL
from broker.pool.model import CodeKey
from tests.support.pool_cluster import (
    COOLDOWN,
    LIFETIME,
    MAX_AGE,
    POOLED,
    SIZE,
    Cluster,
    filled,
    only_memory,
    soon,
)

pytestmark = pytest.mark.usefixtures("long_wechat_timeouts")


# --- removed apps


async def test_app_under_reused_id_has_own_codes(cluster: Cluster) -> None:
    one = await cluster.start()
    await filled(cluster, one)
    former = {code.scene for code in (await cluster.ready()).values()}
    current = replace(POOLED, incarnation="1" * 16)

    cluster.apps.apps["shop"] = current

    async def is_filled() -> bool:
        return (await one.level(current.key)).free == SIZE

    await soon(is_filled)
    scenes = {code.scene for code in (await cluster.ready(current.key)).values()}
    leased = await one.store.code_leases.lease(
        current.key, until=one.store.clock() + LIFETIME, cooldown=COOLDOWN
    )
    assert leased is not None
    assert leased.code.scene in scenes
    assert len(scenes | former) == 2 * SIZE


async def test_pools_of_removed_apps_are_deleted(cluster: Cluster) -> None:
    removed = replace(POOLED, id="removed", incarnation="1" * 16)
    recorded = replace(POOLED, id="recorded", incarnation="2" * 16)
    for app in (removed, recorded):
        await cluster.record(app)
    one = await cluster.start(removed_apps_interval=0.1)
    for app in (POOLED, removed, recorded):
        await soon(partial(cluster.has_ready, app.key, SIZE))
    pictures = [code.picture for code in (await cluster.ready(removed.key)).values()]

    await cluster.remove(removed)
    await soon(lambda: cluster.has_ready(removed.key, 0))
    contents = [await cluster.pictures.get(picture) for picture in pictures]
    cluster.clock.time += LIFETIME_MAX + LOGIN_RETENTION + CLOCK_SKEW_OVERLAP + 1

    async def is_cleared() -> bool:
        return removed.key not in {one.app for one in await cluster.codes.counts()}

    await soon(is_cleared)
    assert None not in contents
    assert [await cluster.pictures.get(picture) for picture in pictures] == [None] * SIZE
    assert (await one.level(removed.key)).total == 0
    for app in (POOLED, recorded):
        assert await cluster.has_ready(app.key, SIZE)


# --- replaced codes


@pytest.mark.parametrize("up", [0, 1_000])
async def test_picture_of_overused_code_remains_while_on_screens(
    cluster: Cluster, up: float
) -> None:
    """This holds after any uptime of the instance."""
    one = await cluster.start()
    await filled(cluster, one)
    cluster.clock.time += up
    old = (await cluster.ready())[0]
    leased = await one.lease()
    assert leased is not None
    assert leased.code.scene == old.scene

    one.codes_to_retire.add(CodeKey("shop", 0, 0))

    async def is_redrawn() -> bool:
        return (await cluster.ready()).get(0, old).drawing == 1 and one.codes_to_retire == set()

    await soon(is_redrawn)
    assert (await cluster.ready())[0].scene != old.scene
    for _ in range(3):
        cluster.clock.time += CLEANUP_INTERVAL
        await one.wait_for_round()
        assert await cluster.pictures.get(old.picture) is not None

    async def is_removed() -> bool:
        """The picture is removed before its row is updated."""
        cluster.clock.time += CLEANUP_INTERVAL
        return (await cluster.codes.counts())[0].leftover == 0

    await soon(is_removed)
    assert await cluster.pictures.get(old.picture) is None
    assert await cluster.is_whole()


@only_memory
async def test_picture_leased_after_retirement_remains(cluster: Cluster) -> None:
    """No broker had synchronized the state."""
    one = await cluster.start("one")
    await filled(cluster, one)
    await one.end()
    old = (await cluster.ready())[0]
    await cluster.codes.retire([old])
    cluster.clock.time += 1_000
    leased = await one.lease()
    assert leased is not None
    assert leased.code.scene == old.scene

    two = await cluster.start("two")
    await filled(cluster, two)
    cluster.clock.time += CLEANUP_INTERVAL
    await two.wait_for_round()

    assert await cluster.pictures.get(old.picture) is not None


async def test_old_codes_are_replaced_in_small_batches(cluster: Cluster) -> None:
    one = await cluster.start()
    await filled(cluster, one)
    before = await cluster.ready()

    cluster.clock.time += MAX_AGE
    few = []

    async def all_are_new() -> bool:
        cluster.clock.time += CLEANUP_INTERVAL
        few.append((await one.level()).total)
        return all(code.drawing == 1 for code in (await cluster.ready()).values())

    await soon(all_are_new)
    await soon(cluster.is_whole)
    assert min(few) >= SIZE // 2
    assert not {code.scene for code in before.values()} & {
        code.scene for code in (await cluster.ready()).values()
    }
