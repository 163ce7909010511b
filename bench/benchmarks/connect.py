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
SERVERS = "server's CPU, ms per connect"
OWN = "load generator, ms per connect"


class Connect(Row):
    question = (
        f"CPU of a connect. {CONNECTS} browsers connect to one instance, {AT_ONCE} at a time: "
        "TCP, the WebSocket handshake, the Engine.IO handshake, CONNECT to the namespace. They "
        f"stay connected and begin no login. Bar: {BAR} of node."
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
            "connects per second": CONNECTS / took,
        }

    def verdict(self, taken: Taken) -> list[str]:
        return [*beside_node(taken, SERVERS, bar=BAR), ceiling(taken, OWN, "connects")]


ROW = Connect()
