"""How long a browser waits for the news of its confirm."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from statistics import mean

from bench.benchmarks import Cell, Figures, Row, Taken
from bench.benchmarks.compare import beside_node, ceiling, cells, middle
from bench.fleet import Fleet, Meter, Used
from bench.load import LOST, Crowd, Loaded, leave, percentile, steadily
from bench.plots import Plot

WAITING = 400
PAUSE = 0.5
"""Seconds between the last scan and the first confirm."""

RATES = (200, 500, 1000)
"""Confirms a second."""

BARS = {200: 0.8, 1000: 1.0}


class Latency(Row):
    question = (
        "Time until a browser gets the confirm of its phone, which confirms at the other of two "
        f"instances. {WAITING} browsers wait after a scan. All are confirmed at a steady rate, "
        "independent of earlier confirms. Then other browsers take their place, until the "
        "confirms of each rate add up to the seconds of the run. "
        f"Bar, of node's p99: {', '.join(f'{bar} at {at}/s' for at, bar in BARS.items())}."
    )
    cells: Sequence[Cell] = cells(2)
    seconds = 4.0

    async def measure(self, fleet: Fleet, seconds: float) -> Figures:
        crowd = Crowd(fleet)
        figures: dict[str, float] = {}
        for rate in RATES:
            figures |= await self._at(rate, crowd, fleet, seconds)
        crowd.close()
        return figures

    async def _at(self, rate: int, crowd: Crowd, fleet: Fleet, seconds: float) -> Figures:
        waves = max(1, round(rate * seconds / WAITING))
        ran = [await _wave(crowd, fleet, rate) for _ in range(waves)]
        latencies = [latency for loaded, _ in ran for latency in loaded.latencies]
        return {
            p50(rate): 1000 * percentile(latencies, 0.5),
            p99(rate): 1000 * percentile(latencies, 0.99),
            f"{rate}/s: servers' CPU, ms per confirm": _each(used.servers for _, used in ran),
            own(rate): _each(used.own for _, used in ran),
            f"{rate}/s: largest start delay, ms": 1000 * max(loaded.lag for loaded, _ in ran),
            f"{rate}/s: {LOST}": sum(loaded.lost.total() for loaded, _ in ran),
        }

    def verdict(self, taken: Taken) -> list[str]:
        lines = (beside_node(taken, p99(rate), bar=BARS.get(rate)) for rate in RATES)
        return [*chain.from_iterable(lines), ceiling(taken, own(RATES[-1]), "confirms")]

    def plots(self, taken: Taken) -> Sequence[Plot]:
        return [_plot(taken, "p50", p50), _plot(taken, "p99", p99)]


def _plot(taken: Taken, name: str, figure: Callable[[int], str]) -> Plot:
    lines = {
        cell.candidate: [(rate, middle(taken, cell, figure(rate))) for rate in RATES]
        for cell in taken
    }
    return Plot(f"Confirm to event, {name}", "confirms per second", "ms", lines)


async def _wave(crowd: Crowd, fleet: Fleet, rate: float) -> tuple[Loaded, Used]:
    """Every browser that waits is confirmed once."""
    browsers = await crowd.gather(WAITING, scanned=True)
    await asyncio.sleep(PAUSE)
    meter = Meter(fleet)
    ran = await steadily(
        lambda number: crowd.confirm(browsers[number], number), rate=rate, seconds=WAITING / rate
    )
    used = meter.read()
    leave(browsers)
    return ran, used


def _each(costs: Iterable[float]) -> float:
    """The mean cost of a confirm, from that of whole waves."""
    return mean(costs) / WAITING


def p50(rate: int) -> str:
    return f"{rate}/s: p50, ms"


def own(rate: int) -> str:
    return f"{rate}/s: load generator, ms per confirm"


def p99(rate: int) -> str:
    return f"{rate}/s: p99, ms"


ROW = Latency()
