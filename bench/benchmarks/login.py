"""What a complete login costs."""

from __future__ import annotations

from collections.abc import Sequence

from bench.benchmarks import Cell, Figures, Row, Taken
from bench.benchmarks.compare import ALL, beside_node, ceiling, cells
from bench.fleet import Fleet, Meter
from bench.load import LOST, Crowd, eagerly

AT_ONCE = 16
BAR = 0.8
SERVERS = "servers' CPU, ms per login"
OWN = "load generator, ms per login"


class Login(Row):
    question = (
        "CPU of a complete login: connect, begin, scan, confirm at the other instance, redeem, "
        f"disconnect. {AT_ONCE} logins are in progress at a time. All candidates write the same "
        "changes to the same Redis and sign with ES256. Codes are drawn in advance, as in a pool; "
        f"only broker-draws draws a code for each login. Bar: {BAR} of node."
    )
    cells: Sequence[Cell] = cells(2, candidates=(*ALL, "broker-draws"))
    seconds = 10.0

    async def measure(self, fleet: Fleet, seconds: float) -> Figures:
        crowd = Crowd(fleet)
        meter = Meter(fleet)
        ran = await eagerly(crowd.log_in, at_once=AT_ONCE, seconds=seconds)
        used = meter.read()
        crowd.close()
        done = len(ran.latencies)
        return {
            SERVERS: used.servers / done,
            "Redis, ms per login": used.redis / done,
            OWN: used.own / done,
            "logins per second": done / seconds,
            LOST: ran.lost.total(),
        }

    def verdict(self, taken: Taken) -> list[str]:
        return [*beside_node(taken, SERVERS, bar=BAR), ceiling(taken, OWN, "logins")]


ROW = Login()
