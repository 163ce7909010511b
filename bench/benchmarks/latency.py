"""Time until a browser gets its confirm."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from statistics import mean

from bench.benchmarks import Benchmark, Figures, Runs, Setup
from bench.benchmarks.compare import (
    BETTER_PEER,
    NO_BARS,
    Bars,
    compare_with_peers,
    generator_limit,
    median_of,
    setups,
)
from bench.fleet import CPUTime, Fleet, Meter
from bench.load import LOST, LoadGenerator, LoadResult, close_all, percentile, run_at_rate
from bench.plots import Plot

WAITING = 400
CONFIRM_DELAY = 0.5
"""Seconds between the last scan and the first confirm."""

RATES = (200, 500, 1000)
"""Confirms per second."""

BARS = {200: 1.0, 1000: 0.6}


class Latency(Benchmark):
    question = (
        "Time until a browser gets the confirm of its phone, which confirms at the other of two "
        f"instances. {WAITING} browsers wait after a scan. All are confirmed at a steady rate, "
        "independent of earlier confirms. Then other browsers take their place, until the "
        "confirms of each rate add up to the seconds of the run. "
        f"Bars, of p99 of {BETTER_PEER}: "
        f"{', '.join(f'{bar} at {at}/s' for at, bar in BARS.items())}."
    )
    setups: Sequence[Setup] = setups(2)
    seconds = 4.0

    async def measure(self, fleet: Fleet, seconds: float) -> Figures:
        generator = LoadGenerator(fleet)
        figures: dict[str, float] = {}
        for rate in RATES:
            figures |= await self._at(rate, generator, fleet, seconds)
        generator.close()
        return figures

    async def _at(
        self, rate: int, generator: LoadGenerator, fleet: Fleet, seconds: float
    ) -> Figures:
        waves = max(1, round(rate * seconds / WAITING))
        results = [await _wave(generator, fleet, rate) for _ in range(waves)]
        latencies = [latency for loaded, _ in results for latency in loaded.latencies]
        return {
            p50(rate): 1000 * percentile(latencies, 0.5),
            p99(rate): 1000 * percentile(latencies, 0.99),
            f"{rate}/s: servers' CPU, ms per confirm": _mean_cost(
                cpu.servers for _, cpu in results
            ),
            generator_cpu(rate): _mean_cost(cpu.generator for _, cpu in results),
            f"{rate}/s: largest start delay, ms": 1000 * max(loaded.lag for loaded, _ in results),
            f"{rate}/s: {LOST}": sum(loaded.lost.total() for loaded, _ in results),
        }

    def verdict(self, runs: Runs) -> list[str]:
        lines = (compare_with_peers(runs, p99(rate), bars=_bars(rate)) for rate in RATES)
        return [
            *chain.from_iterable(lines),
            generator_limit(runs, generator_cpu(RATES[-1]), "confirms"),
        ]

    def plots(self, runs: Runs) -> Sequence[Plot]:
        return [_plot(runs, "p50", p50), _plot(runs, "p99", p99)]


def _bars(rate: int) -> Bars:
    return {BETTER_PEER: BARS[rate]} if rate in BARS else NO_BARS


def _plot(runs: Runs, name: str, figure: Callable[[int], str]) -> Plot:
    lines = {
        setup.target: [(rate, median_of(runs, setup, figure(rate))) for rate in RATES]
        for setup in runs
    }
    return Plot(f"Confirm to event, {name}", "confirms per second", "ms", lines)


async def _wave(generator: LoadGenerator, fleet: Fleet, rate: float) -> tuple[LoadResult, CPUTime]:
    """Confirm every waiting browser once."""
    browsers = await generator.gather(WAITING, scanned=True)
    await asyncio.sleep(CONFIRM_DELAY)
    meter = Meter(fleet)
    results = await run_at_rate(
        lambda number: generator.confirm(browsers[number], number),
        rate=rate,
        seconds=WAITING / rate,
    )
    cpu = meter.read()
    close_all(browsers)
    return results, cpu


def _mean_cost(costs: Iterable[float]) -> float:
    """The mean CPU of a confirm, from the CPU of each wave."""
    return mean(costs) / WAITING


def p50(rate: int) -> str:
    return f"{rate}/s: p50, ms"


def generator_cpu(rate: int) -> str:
    return f"{rate}/s: load generator, ms per confirm"


def p99(rate: int) -> str:
    return f"{rate}/s: p99, ms"


BENCHMARK = Latency()
