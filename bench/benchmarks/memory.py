"""Memory of a waiting browser."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from bench.benchmarks import Benchmark, Figures, Runs, Setup
from bench.benchmarks.compare import BUN, compare_with_peers, median_of, setups
from bench.fleet import Fleet
from bench.load import LoadGenerator, close_all, gather_limited
from bench.plots import Plot
from bench.targets import Browser

STEPS = (2_000, 4_000, 6_000, 8_000, 10_000)
SETTLE_DELAY = 5.0
BAR = 0.25
KB = 1024
PER_BROWSER = "KB per browser"


class Memory(Benchmark):
    question = (
        f"Memory of a waiting browser. {STEPS[-1]} browsers begin a login at one fresh instance, "
        "which has done one login before, and wait. The figure is the growth of the resident set "
        f"after {SETTLE_DELAY:.0f} s, divided by the number of browsers. The server gets no "
        "request to return memory. The kernel's memory for sockets is the same for all targets "
        f"and is not included. Bar: {BAR} of bun."
    )
    setups: Sequence[Setup] = setups(1)
    warms_up = False

    async def measure(self, fleet: Fleet, seconds: float) -> Figures:
        generator = LoadGenerator(fleet)
        await generator.log_in(0)
        before = fleet.rss_bytes()
        browsers: list[Browser] = []
        grown = {}
        for step in STEPS:
            browsers += await gather_limited(generator.begin, range(len(browsers), step))
            await asyncio.sleep(SETTLE_DELAY)
            grown[step] = (fleet.rss_bytes() - before) / KB
        close_all(browsers)
        generator.close()
        return {
            PER_BROWSER: grown[STEPS[-1]] / STEPS[-1],
            "RSS before, MB": before / KB**2,
            **{column(step): grown[step] / KB for step in STEPS},
        }

    def verdict(self, runs: Runs) -> list[str]:
        return compare_with_peers(runs, PER_BROWSER, bars={BUN: BAR})

    def plots(self, runs: Runs) -> Sequence[Plot]:
        lines = {
            setup.target: [(step, median_of(runs, setup, column(step))) for step in STEPS]
            for setup in runs
        }
        return [Plot("Memory of waiting browsers", "browsers", "growth of RSS, MB", lines)]


def column(step: int) -> str:
    return f"growth with {step}, MB"


BENCHMARK = Memory()
