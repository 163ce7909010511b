"""Everyday load for a minute: many waiting browsers, and a steady rate of logins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from bench.benchmarks import Benchmark, Figures, Runs, Setup
from bench.benchmarks.compare import (
    BROKER,
    BUN,
    NODE,
    compare_with_peers,
    generator_limit,
    judge,
    median_of,
    setups,
)
from bench.fleet import Fleet, Meter
from bench.load import LOST, LoadGenerator, close_all, run_at_rate

WAITING = 2_000
"""Waiting browsers per instance."""

RATE = 50
"""Whole logins per second."""

SETTLE_DELAY = 10.0
"""Seconds between the last disconnect and the last reading of the memory."""

BAR = 10.0
MB = 1e6
LOGINS, RETAINED = "logins", "retained growth, %"
SERVER_CPU, PEAK = "servers' CPU, ms per login", "peak growth, MB"
GENERATOR_CPU = "load generator, ms per login"


class Load(Benchmark):
    question = (
        f"Logins and memory under everyday load. {WAITING} browsers per instance have begun a "
        f"login and wait. Meanwhile {RATE} logins per second are begun at one instance, scanned "
        "and confirmed at the next one, and redeemed. Memory is the resident set of all servers "
        "together: warm and without browsers, at its peak, and "
        f"{SETTLE_DELAY:.0f} s after every browser has disconnected. The servers get no request to "
        "return memory to the system. Then as many browsers connect again: growth beyond the "
        "first peak shows that the servers could not use the retained memory. "
        f"Bar: nothing lost, at most {BAR:g} % of the growth retained."
    )
    setups: Sequence[Setup] = setups(2, targets=(BROKER, NODE, BUN, "bun-ws"))
    seconds = 60.0

    async def measure(self, fleet: Fleet, seconds: float) -> Figures:
        generator = LoadGenerator(fleet)
        count = WAITING * len(fleet.urls)
        before = fleet.rss_bytes()
        async with sampled_memory(fleet) as seen:
            browsers = await generator.gather(count)
            meter = Meter(fleet)
            result = await run_at_rate(generator.log_in, rate=RATE, seconds=seconds)
            cpu = meter.read()
        result.lost["a waiting browser"] += sum(not browser.is_waiting for browser in browsers)
        close_all(browsers)
        await asyncio.sleep(SETTLE_DELAY)
        after = fleet.rss_bytes()
        again = await generator.gather(count)
        peaks = max(seen), fleet.rss_bytes()
        close_all(again)
        generator.close()
        done = len(result.latencies)
        return {
            LOGINS: done,
            SERVER_CPU: cpu.servers / done,
            "Redis, ms per login": cpu.redis / done,
            GENERATOR_CPU: cpu.generator / done,
            **result.figures(),
            **memory(before, after, *peaks),
        }

    def verdict(self, runs: Runs) -> list[str]:
        return [
            *(_lost_line(runs, setup) for setup in runs),
            *(_retained_line(runs, setup) for setup in runs),
            *compare_with_peers(runs, SERVER_CPU),
            *compare_with_peers(runs, PEAK),
            generator_limit(runs, GENERATOR_CPU, "logins"),
        ]


def _lost_line(runs: Runs, setup: Setup) -> str:
    lost, logins = (sum(one[name] for one in runs[setup]) for name in (LOST, LOGINS))
    bar_result = f"; {judge(lost, 0)}" if setup.target == BROKER else ""
    return (
        f"{setup}: lost {lost:.0f} of {logins:.0f} logins and of the waiting browsers{bar_result}."
    )


def _retained_line(runs: Runs, setup: Setup) -> str:
    retained = median_of(runs, setup, RETAINED)
    bar_result = f"; {judge(retained, BAR, ' %')}" if setup.target == BROKER else ""
    return (
        f"{setup}: {retained:.0f} % of the growth retained after {SETTLE_DELAY:.0f} s{bar_result}."
    )


def memory(before: float, after: float, peak: float, next_peak: float) -> dict[str, float]:
    return {
        "RSS before, MB": before / MB,
        PEAK: (peak - before) / MB,
        "retained growth, MB": (after - before) / MB,
        RETAINED: 100 * (after - before) / (peak - before),
        "peak growth of the second group, MB": (next_peak - before) / MB,
    }


@asynccontextmanager
async def sampled_memory(fleet: Fleet) -> AsyncIterator[list[int]]:
    """Readings of the servers' memory, one per second until the end of the block."""
    seen = [fleet.rss_bytes()]

    async def watch() -> None:
        while True:
            await asyncio.sleep(1)
            seen.append(fleet.rss_bytes())

    task = asyncio.create_task(watch())
    try:
        yield seen
    finally:
        task.cancel()
        await asyncio.wait([task])


BENCHMARK = Load()
