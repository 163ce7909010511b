"""Pools in the state after losses and after changes by commands."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from typing import Any

import pytest

from broker.errors import Unavailable
from broker.pool.filler import RESERVATION_TIMEOUT
from broker.pool.model import PoolLevel
from tests.support.pool_cluster import (
    COOLDOWN,
    SIZE,
    Cluster,
    LogLines,
    filled,
    is_free,
    only_memory,
    soon,
)
from tests.support.servers.redis import Engines
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("long_wechat_timeouts")


async def test_codes_lost_by_the_state_return_with_cooldown(
    cluster: Cluster, engines: Engines, log_lines: LogLines
) -> None:
    one = await cluster.start()
    await filled(cluster, one)
    await one.wait_for_round()
    before = await cluster.ready()
    await one.lease()

    if cluster.engine == "memory":
        await one.end()
        cluster.forget()
        one = await cluster.start()
    else:
        engines.empty(cluster.engine)

    async def all_rest() -> bool:
        return await one.level() == PoolLevel(free=0, leased=0, resting=SIZE)

    await soon(all_rest)
    assert await one.lease() is None
    assert log_lines.count("pool codes missing in state") == 1

    cluster.clock.time += COOLDOWN
    await soon(lambda: is_free(one, SIZE))
    assert await cluster.ready() == before


@pytest.mark.parametrize("cluster_state", ["valkey"], indirect=True)
async def test_state_emptied_during_a_check_starts_cooldown(
    cluster: Cluster, engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await cluster.start()
    await filled(cluster, one)
    await one.wait_for_round()
    level = one.store.code_leases.level
    emptied: list[bool] = []

    async def level_and_loss(app: str) -> PoolLevel:
        found = await level(app)
        if not emptied:
            emptied.append(True)
            engines.empty("valkey")
        return found

    monkeypatch.setattr(one.store.code_leases, "level", level_and_loss)
    await eventually(lambda: emptied)

    async def all_rest() -> bool:
        return await level("shop") == PoolLevel(free=0, leased=0, resting=SIZE)

    await soon(all_rest)


@only_memory
async def test_codes_not_offered_yet_are_not_missing(
    cluster: Cluster, log_lines: LogLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This includes an instance that has just become the leader again."""
    offer = cluster.store.code_leases.offer

    async def late(app: str, codes: Sequence[Any], **named: Any) -> None:
        """The leader lease is lost and acquired again during the offer."""
        if codes:
            await eventually(lambda: log_lines.count("pool maintenance recovered") == 1)
        await offer(app, codes, **named)

    monkeypatch.setattr(cluster.store.code_leases, "offer", late)
    monkeypatch.setattr(
        cluster.store.leader_leases, "acquire", failing(2, cluster.store.leader_leases.acquire)
    )

    one = await cluster.start()

    await soon(lambda: is_free(one, SIZE))
    assert log_lines.count("pool maintenance failed") == 1
    assert log_lines.count("pool codes missing in state") == 0


def failing(nth: int, act: Callable[..., Awaitable[bool]]) -> Callable[..., Awaitable[bool]]:
    """Return `act`, whose nth call raises Unavailable."""
    calls = count(1)

    async def fail(*given: object, **named: object) -> bool:
        if next(calls) == nth:
            raise Unavailable
        return await act(*given, **named)

    return fail


async def test_codes_drawn_by_a_command_are_free_at_once(cluster: Cluster) -> None:
    """As by `scan-login pool fill` without access to the state."""
    one = await cluster.start()
    await filled(cluster, one)
    for number in range(SIZE, SIZE + 5):
        reserved = await cluster.codes.reserve("shop", number, seconds=RESERVATION_TIMEOUT)
        assert reserved is not None
        await cluster.codes.finish(reserved, "x.svg")

    await soon(lambda: is_free(one, SIZE + 5))


@only_memory
async def test_codes_replaced_by_a_command_are_replaced_in_state(cluster: Cluster) -> None:
    """As by `scan-login pool retire` and `fill`, in between two rounds."""
    one = await cluster.start()
    await filled(cluster, one)
    async with one.round_lock:
        old = (await cluster.ready())[0]
        await cluster.codes.retire([old])
        reserved = await cluster.codes.reserve("shop", 0, seconds=RESERVATION_TIMEOUT)
        assert reserved is not None
        await cluster.codes.finish(reserved, "x.svg")

    async def is_replaced() -> bool:
        new = (await cluster.ready()).get(0)
        leased = await one.lease()
        assert leased is not None
        await one.store.code_leases.return_code(
            "shop", leased.code.number, leased.generation, cooldown=0.0
        )
        return leased.code.number == 0 and new is not None and leased.code.scene == new.scene

    await soon(is_replaced)
