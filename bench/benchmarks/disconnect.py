"""What a disconnect costs while many others wait."""

from __future__ import annotations

from collections.abc import Sequence

from bench.benchmarks import Cell, Figures, Row, Taken
from bench.benchmarks.compare import OURS, beside_node, cells, judged, middle
from bench.fleet import Fleet, Meter, at_rest, settled
from bench.load import Crowd, leave

WAITING = 10_000
LEAVING = 1_000
PINGS = 25.0
"""Seconds in which a server has sent every browser a ping."""

BAR_MS = 0.1
SERVERS = "server's CPU, ms per disconnect"


class Disconnect(Row):
    question = (
        f"CPU of a disconnect while {WAITING} other browsers wait. {WAITING + LEAVING} browsers "
        f"have begun a login at one instance, and {LEAVING} of them disconnect at once. The CPU "
        f"is read when the instance is idle again, minus its idle CPU. Bar: {BAR_MS} ms."
    )
    cells: Sequence[Cell] = cells(1)

    async def measure(self, fleet: Fleet, seconds: float) -> Figures:
        crowd = Crowd(fleet)
        browsers = await crowd.gather(WAITING + LEAVING)
        rest = await at_rest(fleet, PINGS)
        meter = Meter(fleet)
        leave(browsers[:LEAVING])
        await settled(fleet, rest)
        used, took = meter.read(), meter.seconds
        leave(browsers[LEAVING:])
        return {
            SERVERS: (used.servers - rest * took) / LEAVING,
            "idle, ms per s": rest,
            "time until idle, s": took,
        }

    def verdict(self, taken: Taken) -> list[str]:
        return [_alone(taken, cell) for cell in taken] + beside_node(taken, SERVERS)


def _alone(taken: Taken, cell: Cell) -> str:
    cost = middle(taken, cell, SERVERS)
    met = f"; {judged(cost, BAR_MS, ' ms')}" if cell.candidate == OURS else ""
    return f"{cell}: {cost:.3f} ms{met}."


ROW = Disconnect()
