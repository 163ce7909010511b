"""What a confirm costs as instances are added."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from statistics import median

from bench.benchmarks import Cell, Figures, Row, Taken
from bench.benchmarks.compare import OURS, beside_node, cells, judged, middle
from bench.fleet import Fleet, Meter, at_rest
from bench.load import Crowd, leave, steadily
from bench.plots import Plot

RATE = 200
"""Confirms a second."""

IDLE = 5.0
"""Seconds in which the servers only hold their browsers."""

FEWEST, MOST = 2, 8
BAR = 1.10
SERVERS = "servers' CPU, ms per 1000 confirms"
AT_REST = "idle, ms per s"


class Growth(Row):
    question = (
        f"CPU of a confirm as instances are added. {RATE} confirms per second over one Redis. "
        "Each login is begun at one instance and confirmed at the next one, and its browser is "
        "notified. All browsers have connected, begun and been scanned before. The figure is the "
        "CPU (user and system) of all servers during the confirms only, including their idle CPU. "
        f"Bar: {MOST} instances at most {BAR} of {FEWEST}."
    )
    cells: Sequence[Cell] = cells(FEWEST, 4, MOST)
    seconds = 10.0

    async def measure(self, fleet: Fleet, seconds: float) -> Figures:
        crowd = Crowd(fleet)
        browsers = await crowd.gather(round(RATE * seconds), scanned=True)
        await asyncio.sleep(1)
        rest = await at_rest(fleet, IDLE)
        meter = Meter(fleet)
        ran = await steadily(
            lambda number: crowd.confirm(browsers[number], number), rate=RATE, seconds=seconds
        )
        used = meter.read()
        leave(browsers)
        crowd.close()
        thousands = len(ran.latencies) / 1000
        return {
            SERVERS: used.servers / thousands,
            AT_REST: rest,
            "Redis, ms per 1000": used.redis / thousands,
            "load generator, ms per 1000": used.own / thousands,
            **ran.figures(),
        }

    def verdict(self, taken: Taken) -> list[str]:
        pairs = [(cell, cell._replace(instances=FEWEST)) for cell in taken]
        grown = [_grown(taken, *pair) for pair in pairs if pair[0] != pair[1] and pair[1] in taken]
        return grown + beside_node(taken, SERVERS)

    def plots(self, taken: Taken) -> Sequence[Plot]:
        lines: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
        for cell in taken:
            lines[cell.candidate].append((cell.instances, middle(taken, cell, SERVERS)))
        return [Plot("CPU of a confirm", "instances", "ms per 1000 confirms", lines)]


def _grown(taken: Taken, cell: Cell, fewest: Cell) -> str:
    pairs = zip(costs(taken, cell), costs(taken, fewest), strict=True)
    rounds = [cost / first for cost, first in pairs]
    share = median(costs(taken, cell)) / median(costs(taken, fewest))
    alone = median(less_rest(taken, cell)) / median(less_rest(taken, fewest))
    met = f"; {judged(share, BAR)}" if cell == Cell(OURS, MOST) else ""
    return (
        f"{cell} compared to {fewest.instances}: {share:.2f} "
        f"({min(rounds):.2f}–{max(rounds):.2f} by round); "
        f"{alone:.2f} without idle CPU{met}."
    )


def costs(taken: Taken, cell: Cell) -> list[float]:
    return [figures[SERVERS] for figures in taken[cell]]


def less_rest(taken: Taken, cell: Cell) -> list[float]:
    """The cost of a confirm without that of heartbeats, pings and timers meanwhile."""
    return [figures[SERVERS] - figures[AT_REST] * 1000 / RATE for figures in taken[cell]]


ROW = Growth()
