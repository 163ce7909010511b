"""What a code of the pool spares a browser that begins, and the servers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from bench.baselines.wechat import TAKES
from bench.benchmarks import Cell, Figures, Row, Taken
from bench.benchmarks.compare import middle
from bench.fleet import Fleet, Meter
from bench.load import LOST, Crowd, few_at_once, leave, percentile
from bench.socketio import Broken
from bench.targets import Browser
from bench.targets.broker import POOL
from broker.records import DEFAULT_APP
from broker.state import open_state
from tests.support.waiting import eventually

AT_ONCE = 200
ALONE = 50
"""Begins that follow each other."""

FILLED_WITHIN = 120.0

POOLED, WECHAT, DRAWS = (
    Cell(name, 2) for name in ("broker-pooled", "broker-wechat", "broker-draws")
)

ONE, ONE_P99 = "one at a time: p50, ms", "one at a time: p99, ms"
P50, P99 = "at once: p50, ms", "at once: p99, ms"
SERVERS = "servers' CPU, ms per begin"
TRIPS = "state scripts per begin"


class Pool(Row):
    question = (
        f"Effect of codes from the pool. {AT_ONCE} connected browsers begin a login at once, at "
        "two instances, after other browsers have done so. broker-pooled leases codes from a pool "
        f"of {POOL}, with requests to the state only. broker-wechat requests each code from a "
        f"WeChat stub that answers after {1000 * TAKES:.0f} ms. broker-draws uses the pretend "
        "provider, which draws codes in the same process. A login is one script in the state, and "
        f"a lease is another one. Times at once include the time that {AT_ONCE} begins wait for "
        f"each other, and the time of the load generator. Before them, {ALONE} browsers begin one "
        "after the other."
    )
    cells: Sequence[Cell] = (POOLED, WECHAT, DRAWS)
    warm = False  # whole logins would take codes that then rest

    async def measure(self, fleet: Fleet, seconds: float) -> Figures:
        crowd = Crowd(fleet)
        if fleet.candidate.name == POOLED.candidate:
            await filled(fleet)
        await began(await connected(crowd, AT_ONCE))
        alone = [took for one in await connected(crowd, ALONE) for took in await began([one])]
        browsers = await connected(crowd, AT_ONCE)
        meter, scripts = Meter(fleet), fleet.scripts()
        took = await began(browsers)
        used, ran = meter.read(), fleet.scripts() - scripts
        return {
            ONE: 1000 * percentile(alone, 0.5),
            ONE_P99: 1000 * percentile(alone, 0.99),
            P50: 1000 * percentile(took, 0.5),
            P99: 1000 * percentile(took, 0.99),
            SERVERS: used.servers / AT_ONCE,
            TRIPS: ran / AT_ONCE,
            "Redis, ms per begin": used.redis / AT_ONCE,
            LOST: ALONE - len(alone) + AT_ONCE - len(took),
        }

    def verdict(self, taken: Taken) -> list[str]:
        return [
            f"{figure}: {POOLED} {middle(taken, POOLED, figure) / middle(taken, cell, figure):.2g} "
            f"of {cell}."
            for cell in taken
            if cell != POOLED and POOLED in taken
            for figure in (ONE, P50, P99, SERVERS)
        ]


async def filled(fleet: Fleet) -> None:
    """Wait until all codes of the pool are free."""
    assert fleet.redis is not None
    store = open_state(fleet.redis.url)
    await store.open()

    async def is_full() -> bool:
        return (await store.leases.level(DEFAULT_APP)).free >= int(POOL)

    await eventually(is_full, within=FILLED_WITHIN)
    await store.close()


async def connected(crowd: Crowd, count: int) -> list[Browser]:
    return await few_at_once(crowd.connected, range(count))


async def began(browsers: Sequence[Browser]) -> list[float]:
    """How long each had to wait for its code, in seconds, where all ask at once; then they leave.

    Those that got none are left out.
    """

    async def begin(browser: Browser) -> float:
        asked = time.perf_counter()
        await browser.begin()
        return time.perf_counter() - asked

    ended = await asyncio.gather(*map(begin, browsers), return_exceptions=True)
    leave(browsers)
    for end in ended:
        if isinstance(end, BaseException) and not isinstance(end, Broken):
            raise end
    return [end for end in ended if isinstance(end, float)]


ROW = Pool()
