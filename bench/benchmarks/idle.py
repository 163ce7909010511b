"""CPU of browsers that only wait."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from bench.benchmarks import Benchmark, Figures, Runs, Setup
from bench.benchmarks.compare import BUN, NODE, compare_with_peers, setups
from bench.fleet import Fleet, idle_cpu
from bench.load import LoadGenerator, close_all, gather_limited

BROWSERS = 10_000
SETTLE_DELAY = 5.0
BARS = {BUN: 0.8, NODE: 0.25}
CONNECTED = "connected, % of a core"
WAITING = "waiting for a login, % of a core"


class Idle(Benchmark):
    question = (
        f"CPU of {BROWSERS} browsers that only wait, at one instance. The CPU is measured over "
        "two ping intervals of 25 seconds: while the browsers are connected, and again after each "
        "has begun a login. Only the broker asks the state for changed logins, about every 4 s. "
        f"Bar: {BARS[BUN]} of bun; while they wait also {BARS[NODE]} of node."
    )
    setups: Sequence[Setup] = setups(1)
    seconds = 50.0

    async def measure(self, fleet: Fleet, seconds: float) -> Figures:
        generator = LoadGenerator(fleet)
        await asyncio.sleep(SETTLE_DELAY)
        alone = await idle_cpu(fleet)
        browsers = await gather_limited(generator.connect, range(BROWSERS))
        await asyncio.sleep(SETTLE_DELAY)
        connected = await idle_cpu(fleet, seconds)
        await gather_limited(lambda browser: browser.begin(), browsers)
        await asyncio.sleep(SETTLE_DELAY)
        waiting = await idle_cpu(fleet, seconds)
        closed = sum(not browser.is_waiting for browser in browsers)
        close_all(browsers)
        return {
            CONNECTED: connected / 10,
            WAITING: waiting / 10,
            "without browsers, % of a core": alone / 10,
            "disconnected": closed,
        }

    def verdict(self, runs: Runs) -> list[str]:
        return [
            *compare_with_peers(runs, CONNECTED, bars={BUN: BARS[BUN]}),
            *compare_with_peers(runs, WAITING, bars=BARS),
        ]


BENCHMARK = Idle()
