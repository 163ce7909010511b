"""What browsers cost that only wait."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from bench.benchmarks import Cell, Figures, Row, Taken
from bench.benchmarks.compare import beside_node, cells
from bench.fleet import Fleet, at_rest
from bench.load import Crowd, few_at_once, leave

BROWSERS = 10_000
SETTLE = 5.0
BAR = 0.25
CONNECTED = "connected, % of a core"
WAITING = "waiting for a login, % of a core"


class Idle(Row):
    question = (
        f"CPU of {BROWSERS} browsers that only wait, at one instance. The CPU is measured over "
        "two ping intervals of 25 seconds: while the browsers are connected, and again after each "
        "has begun a login. Only the broker queries the state for each login, about every 4 s. "
        f"Bar: {BAR} of node."
    )
    cells: Sequence[Cell] = cells(1)
    seconds = 50.0

    async def measure(self, fleet: Fleet, seconds: float) -> Figures:
        crowd = Crowd(fleet)
        await asyncio.sleep(SETTLE)
        alone = await at_rest(fleet)
        browsers = await few_at_once(crowd.connected, range(BROWSERS))
        await asyncio.sleep(SETTLE)
        connected = await at_rest(fleet, seconds)
        await few_at_once(lambda browser: browser.begin(), browsers)
        await asyncio.sleep(SETTLE)
        waiting = await at_rest(fleet, seconds)
        gone = sum(not browser.waits for browser in browsers)
        leave(browsers)
        return {
            CONNECTED: connected / 10,
            WAITING: waiting / 10,
            "without browsers, % of a core": alone / 10,
            "disconnected": gone,
        }

    def verdict(self, taken: Taken) -> list[str]:
        return [*beside_node(taken, CONNECTED, bar=BAR), *beside_node(taken, WAITING, bar=BAR)]


ROW = Idle()
