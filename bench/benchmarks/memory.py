"""What a waiting browser weighs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from bench.benchmarks import Cell, Figures, Row, Taken
from bench.benchmarks.compare import beside_node, cells, middle
from bench.fleet import Fleet
from bench.load import Crowd, few_at_once, leave
from bench.plots import Plot
from bench.targets import Browser

STEPS = (2_000, 4_000, 6_000, 8_000, 10_000)
SETTLE = 5.0
BAR = 0.2
KB = 1024
EACH = "KB per browser"


class Memory(Row):
    question = (
        f"Memory of a waiting browser. {STEPS[-1]} browsers begin a login at one fresh instance, "
        "which has done one login before, and wait. The figure is the growth of the resident set "
        f"after {SETTLE:.0f} s, divided by the number of browsers. The server gets no request to "
        "return memory. The kernel's memory for sockets is the same for all candidates and is "
        f"not included. Bar: {BAR} of node."
    )
    cells: Sequence[Cell] = cells(1)
    warm = False

    async def measure(self, fleet: Fleet, seconds: float) -> Figures:
        crowd = Crowd(fleet)
        await crowd.log_in(0)
        before = fleet.rss_bytes()
        browsers: list[Browser] = []
        grown = {}
        for step in STEPS:
            browsers += await few_at_once(crowd.waiting, range(len(browsers), step))
            await asyncio.sleep(SETTLE)
            grown[step] = (fleet.rss_bytes() - before) / KB
        leave(browsers)
        crowd.close()
        return {
            EACH: grown[STEPS[-1]] / STEPS[-1],
            "RSS before, MB": before / KB**2,
            **{column(step): grown[step] / KB for step in STEPS},
        }

    def verdict(self, taken: Taken) -> list[str]:
        return beside_node(taken, EACH, bar=BAR)

    def plots(self, taken: Taken) -> Sequence[Plot]:
        lines = {
            cell.candidate: [(step, middle(taken, cell, column(step))) for step in STEPS]
            for cell in taken
        }
        return [Plot("Memory of waiting browsers", "browsers", "growth of RSS, MB", lines)]


def column(step: int) -> str:
    return f"growth with {step}, MB"


ROW = Memory()
