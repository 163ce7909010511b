"""What a confirm costs as instances are added."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from statistics import median

from bench.fleet import Fleet
from bench.load import Crowd, leave, percentile, steadily
from bench.rows import Cell, Figures, Taken

RATE = 200
"""Confirms a second."""

IDLE = 5.0
"""Seconds in which the servers only hold their browsers."""

BAR = 1.10
SERVERS = "servers' CPU, ms per 1000 confirms"
AT_REST = "the same at rest, ms per s"


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
        at_rest = fleet.cpu_ms()
        await asyncio.sleep(IDLE)
        before, redis, own = fleet.cpu_ms(), fleet.redis_cpu_ms(), time.process_time()
        ran = await steadily(
            lambda number: crowd.confirm(browsers[number], number), rate=RATE, seconds=seconds
        )
        servers = fleet.cpu_ms() - before
        redis = fleet.redis_cpu_ms() - redis
        own = time.process_time() - own
        leave(browsers)
        crowd.close()
        done = len(ran.latencies)
        return {
            SERVERS: 1000 * servers / done,
            AT_REST: (before - at_rest) / IDLE,
            "Redis, ms per 1000": 1000 * redis / done,
            "generator, ms per 1000": 1e6 * own / done,
            "confirm → event p50, ms": 1000 * percentile(ran.latencies, 0.5),
            "p99, ms": 1000 * percentile(ran.latencies, 0.99),
            "latest start, ms": 1000 * ran.lag,
            "lost": ran.lost.total(),
        }

    def verdict(self, taken: Taken) -> list[str]:
        fewest, *more = self.cells
        return [self._ratio(taken, cell, fewest) for cell in more]

    def _ratio(self, taken: Taken, cell: Cell, fewest: Cell) -> str:
        rounds = [
            one[SERVERS] / first[SERVERS]
            for one, first in zip(taken[cell], taken[fewest], strict=True)
        ]
        ratio = median(one[SERVERS] for one in taken[cell]) / median(
            one[SERVERS] for one in taken[fewest]
        )
        spread = f"{min(rounds):.2f}–{max(rounds):.2f} round by round"
        return f"{cell.instances} instances against {fewest.instances}: {ratio:.2f} ({spread})."


ROW = Growth()
