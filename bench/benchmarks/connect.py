"""What a connect costs."""

from __future__ import annotations

import time
from collections.abc import Sequence

from bench.benchmarks import Cell, Figures, Row, Taken
from bench.benchmarks.compare import beside_node, ceiling, cells
from bench.fleet import Fleet, Meter
from bench.load import AT_ONCE, Crowd, few_at_once, leave

CONNECTS = 5_000
BAR = 0.75
SERVERS = "server's CPU, ms a connect"
OWN = "generator, ms a connect"


class Connect(Row):
    question = (
        f"What does a connect cost? {CONNECTS} browsers come to one instance, {AT_ONCE} at a "
        "time: TCP, the websocket's handshake, Engine.IO's, CONNECT to the namespace; they stay, "
        f"and begin nothing. Bar: {BAR} of node."
    )
    cells: Sequence[Cell] = cells(1)

    async def measure(self, fleet: Fleet, seconds: float) -> Figures:
        crowd = Crowd(fleet)
        meter, start = Meter(fleet), time.perf_counter()
        browsers = await few_at_once(crowd.connected, range(CONNECTS))
        used, took = meter.read(), time.perf_counter() - start
        leave(browsers)
        return {
            SERVERS: used.servers / CONNECTS,
            OWN: used.own / CONNECTS,
            "connects a second": CONNECTS / took,
        }

    def verdict(self, taken: Taken) -> list[str]:
        return [*beside_node(taken, SERVERS, bar=BAR), ceiling(taken, OWN, "connects")]


ROW = Connect()
