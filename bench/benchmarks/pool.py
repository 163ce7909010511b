"""Time and CPU of a begin with a code from the pool."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from bench.baselines.wechat import DRAW_DELAY
from bench.benchmarks import Benchmark, Figures, Runs, Setup
from bench.benchmarks.compare import median_of
from bench.fleet import Fleet, Meter
from bench.load import LOST, LoadGenerator, close_all, gather_limited, percentile
from bench.socketio import ProtocolError
from bench.targets import Browser
from bench.targets.broker import POOL
from broker.apps.model import DEFAULT_APP
from broker.state import open_state
from tests.support.waiting import eventually

BURST = 200
SEQUENTIAL = 50
"""Begins one after the other."""

FILL_TIMEOUT = 120.0

POOLED, WECHAT, DRAWS = (
    Setup(name, 2) for name in ("broker-pooled", "broker-wechat", "broker-draws")
)

ONE, ONE_P99 = "one at a time: p50, ms", "one at a time: p99, ms"
P50, P99 = "at once: p50, ms", "at once: p99, ms"
SERVER_CPU = "servers' CPU, ms per begin"
SCRIPTS = "state scripts per begin"


class Pool(Benchmark):
    question = (
        f"Effect of codes from the pool. {BURST} connected browsers begin a login at once, at "
        "two instances, after other browsers have done so. broker-pooled leases codes from a pool "
        f"of {POOL}, with requests to the state only. broker-wechat requests each code from a "
        f"WeChat stub that answers after {1000 * DRAW_DELAY:.0f} ms. broker-draws uses the pretend "
        "provider, which draws codes in the same process. A login is one script in the state, and "
        f"a lease is another one. Times at once include the time that {BURST} begins wait for "
        "each other, and the time of the load generator. Before them, "
        f"{SEQUENTIAL} browsers begin one after the other."
    )
    setups: Sequence[Setup] = (POOLED, WECHAT, DRAWS)
    warms_up = False  # whole logins would use codes, which then are in cooldown

    async def measure(self, fleet: Fleet, seconds: float) -> Figures:
        generator = LoadGenerator(fleet)
        if fleet.target.name == POOLED.target:
            await wait_until_full(fleet)
        await measure_begins(await connect_browsers(generator, BURST))
        alone = [
            took
            for one in await connect_browsers(generator, SEQUENTIAL)
            for took in await measure_begins([one])
        ]
        browsers = await connect_browsers(generator, BURST)
        meter, scripts = Meter(fleet), fleet.scripts()
        took = await measure_begins(browsers)
        cpu, ran = meter.read(), fleet.scripts() - scripts
        return {
            ONE: 1000 * percentile(alone, 0.5),
            ONE_P99: 1000 * percentile(alone, 0.99),
            P50: 1000 * percentile(took, 0.5),
            P99: 1000 * percentile(took, 0.99),
            SERVER_CPU: cpu.servers / BURST,
            SCRIPTS: ran / BURST,
            "Redis, ms per begin": cpu.redis / BURST,
            LOST: SEQUENTIAL - len(alone) + BURST - len(took),
        }

    def verdict(self, runs: Runs) -> list[str]:
        return [
            f"{figure}: {POOLED} {_share(runs, setup, figure):.2g} of {setup}."
            for setup in runs
            if setup != POOLED and POOLED in runs
            for figure in (ONE, P50, P99, SERVER_CPU)
        ]


def _share(runs: Runs, setup: Setup, figure: str) -> float:
    return median_of(runs, POOLED, figure) / median_of(runs, setup, figure)


async def wait_until_full(fleet: Fleet) -> None:
    """Wait until all codes of the pool are free."""
    assert fleet.redis is not None
    store = open_state(fleet.redis.url)
    await store.open()

    async def is_full() -> bool:
        return (await store.code_leases.level(DEFAULT_APP)).free >= int(POOL)

    await eventually(is_full, within=FILL_TIMEOUT)
    await store.close()


async def connect_browsers(generator: LoadGenerator, count: int) -> list[Browser]:
    return await gather_limited(generator.connect, range(count))


async def measure_begins(browsers: Sequence[Browser]) -> list[float]:
    """Seconds until each browser has its code, if all begin at once. Then close the browsers.

    Failed begins are not included.
    """

    async def begin(browser: Browser) -> float:
        start = time.perf_counter()
        await browser.begin()
        return time.perf_counter() - start

    ended = await asyncio.gather(*map(begin, browsers), return_exceptions=True)
    close_all(browsers)
    for end in ended:
        if isinstance(end, BaseException) and not isinstance(end, ProtocolError):
            raise end
    return [end for end in ended if isinstance(end, float)]


BENCHMARK = Pool()
