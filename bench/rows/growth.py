"""What a confirm costs as instances are added."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from statistics import median

from bench.fleet import Fleet, Meter
from bench.load import Crowd, leave, steadily
from bench.rows import Cell, Figures, Taken

RATE = 200
"""Confirms a second."""

IDLE = 5.0
"""Seconds in which the servers only hold their browsers."""

BAR = 1.10
SERVERS = "servers' CPU, ms per 1000 confirms"
AT_REST = "at rest, ms per s"


class Growth:
    question = (
        f"What does a confirm cost as instances are added? {RATE} confirms a second over one "
        "Redis, each login begun at one instance and confirmed at the next, its browser told. "
        "All browsers have connected, begun and been scanned before; the CPU (user and "
        "system) of all servers is read over the confirms alone, what they use at rest included. "
        f"Bar: 8 instances at most {BAR} of 2."
    )
    cells: Sequence[Cell] = [Cell("broker", 2), Cell("broker", 4), Cell("broker", 8)]
    seconds = 10.0

    async def measure(self, fleet: Fleet, seconds: float) -> Figures:
        crowd = Crowd(fleet)
        browsers = await crowd.gather(round(RATE * seconds), scanned=True)
        await asyncio.sleep(1)
        meter = Meter(fleet)
        await asyncio.sleep(IDLE)
        at_rest = meter.read()
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
            AT_REST: at_rest.servers / IDLE,
            "Redis, ms per 1000": used.redis / thousands,
            "generator, ms per 1000": used.own / thousands,
            **ran.figures(),
        }

    def verdict(self, taken: Taken) -> list[str]:
        fewest, *more = self.cells
        return [self._ratio(taken, cell, fewest) for cell in more]

    def _ratio(self, taken: Taken, cell: Cell, fewest: Cell) -> str:
        rounds = [
            cost / first
            for cost, first in zip(costs(taken, cell), costs(taken, fewest), strict=True)
        ]
        alone = median(less_rest(taken, cell)) / median(less_rest(taken, fewest))
        return (
            f"{cell.instances} instances against {fewest.instances}: "
            f"{median(costs(taken, cell)) / median(costs(taken, fewest)):.2f} "
            f"({min(rounds):.2f}–{max(rounds):.2f} round by round); "
            f"{alone:.2f} without what they use at rest."
        )


def costs(taken: Taken, cell: Cell) -> list[float]:
    return [figures[SERVERS] for figures in taken[cell]]


def less_rest(taken: Taken, cell: Cell) -> list[float]:
    """The cost of a confirm without that of heartbeats, pings and timers meanwhile."""
    return [figures[SERVERS] - figures[AT_REST] * 1000 / RATE for figures in taken[cell]]


ROW = Growth()
