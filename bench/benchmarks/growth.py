"""CPU of a confirm as instances are added."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from statistics import median

from bench.benchmarks import Benchmark, Figures, Runs, Setup
from bench.benchmarks.compare import BROKER, compare_with_peers, judge, median_of, setups
from bench.fleet import Fleet, Meter, idle_cpu
from bench.load import LoadGenerator, close_all, run_at_rate
from bench.plots import Plot

RATE = 200
"""Confirms per second."""

IDLE = 5.0
"""Seconds in which the idle CPU is measured."""

FEWEST, MOST = 2, 8
BAR = 1.10
SERVER_CPU = "servers' CPU, ms per 1000 confirms"
IDLE_CPU = "idle, ms per s"


class Growth(Benchmark):
    question = (
        f"CPU of a confirm as instances are added. {RATE} confirms per second over one Redis. "
        "Each login is begun at one instance and confirmed at the next one, and its browser is "
        "notified. All browsers have connected, begun and been scanned before. The figure is the "
        "CPU (user and system) of all servers during the confirms only, including their idle CPU. "
        f"Bar: {MOST} instances at most {BAR} of {FEWEST}."
    )
    setups: Sequence[Setup] = setups(FEWEST, 4, MOST)
    seconds = 10.0

    async def measure(self, fleet: Fleet, seconds: float) -> Figures:
        generator = LoadGenerator(fleet)
        browsers = await generator.gather(round(RATE * seconds), scanned=True)
        await asyncio.sleep(1)
        idle = await idle_cpu(fleet, IDLE)
        meter = Meter(fleet)
        result = await run_at_rate(
            lambda number: generator.confirm(browsers[number], number), rate=RATE, seconds=seconds
        )
        cpu = meter.read()
        close_all(browsers)
        generator.close()
        thousands = len(result.latencies) / 1000
        return {
            SERVER_CPU: cpu.servers / thousands,
            IDLE_CPU: idle,
            "Redis, ms per 1000": cpu.redis / thousands,
            "load generator, ms per 1000": cpu.generator / thousands,
            **result.figures(),
        }

    def verdict(self, runs: Runs) -> list[str]:
        pairs = [(setup, setup._replace(instances=FEWEST)) for setup in runs]
        grown = [
            _growth_line(runs, *pair) for pair in pairs if pair[0] != pair[1] and pair[1] in runs
        ]
        return grown + compare_with_peers(runs, SERVER_CPU)

    def plots(self, runs: Runs) -> Sequence[Plot]:
        lines: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
        for setup in runs:
            lines[setup.target].append((setup.instances, median_of(runs, setup, SERVER_CPU)))
        return [Plot("CPU of a confirm", "instances", "ms per 1000 confirms", lines)]


def _growth_line(runs: Runs, setup: Setup, fewest: Setup) -> str:
    pairs = zip(costs(runs, setup), costs(runs, fewest), strict=True)
    rounds = [cost / first for cost, first in pairs]
    share = median(costs(runs, setup)) / median(costs(runs, fewest))
    alone = median(without_idle_cpu(runs, setup)) / median(without_idle_cpu(runs, fewest))
    bar_result = f"; {judge(share, BAR)}" if setup == Setup(BROKER, MOST) else ""
    return (
        f"{setup} compared to {fewest.instances}: {share:.2f} "
        f"({min(rounds):.2f}–{max(rounds):.2f} by round); "
        f"{alone:.2f} without idle CPU{bar_result}."
    )


def costs(runs: Runs, setup: Setup) -> list[float]:
    return [figures[SERVER_CPU] for figures in runs[setup]]


def without_idle_cpu(runs: Runs, setup: Setup) -> list[float]:
    """CPU of the confirms without the idle CPU of heartbeats, PINGs and timers."""
    return [figures[SERVER_CPU] - figures[IDLE_CPU] * 1000 / RATE for figures in runs[setup]]


BENCHMARK = Growth()
