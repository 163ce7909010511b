"""A minute of everyday load: many browsers that wait, a steady stream of logins among them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from statistics import median

from bench.benchmarks import Cell, Figures, Row, Taken
from bench.benchmarks.compare import ceiling
from bench.fleet import Fleet, Meter
from bench.load import LOST, Crowd, leave, steadily

WAITING = 2_000
"""Browsers an instance that have begun a login and wait."""

RATE = 50
"""Whole logins per second."""

SETTLE = 10.0
"""Seconds between the last browser's leaving and the last look at the memory."""

BAR = 0.10
MB = 1e6
LOGINS, KEPT = "logins", "retained growth, %"
OWN = "load generator, ms per login"


class Load(Row):
    question = (
        f"Logins and memory under everyday load. {WAITING} browsers per instance have begun a "
        f"login and wait. Meanwhile {RATE} logins per second are begun at one instance, scanned "
        "and confirmed at the next one, and redeemed. Memory is the resident set of all servers "
        f"together: warm and without browsers, at its peak, and {SETTLE:.0f} s after every browser "
        "has disconnected. The servers get no request to return memory to the system. Then as "
        "many browsers connect again: growth beyond the first peak shows that the servers could "
        f"not use the retained memory. Bar: nothing lost, at most {BAR:.0%} of the growth retained."
    )
    cells: Sequence[Cell] = [Cell("broker", 2)]
    seconds = 60.0

    async def measure(self, fleet: Fleet, seconds: float) -> Figures:
        crowd = Crowd(fleet)
        count = WAITING * len(fleet.urls)
        before = fleet.rss_bytes()
        async with watched(fleet) as seen:
            browsers = await crowd.gather(count)
            meter = Meter(fleet)
            ran = await steadily(crowd.log_in, rate=RATE, seconds=seconds)
            used = meter.read()
        ran.lost["a waiting browser"] += sum(not browser.waits for browser in browsers)
        leave(browsers)
        await asyncio.sleep(SETTLE)
        after = fleet.rss_bytes()
        again = await crowd.gather(count)
        peaks = max(seen), fleet.rss_bytes()
        leave(again)
        crowd.close()
        done = len(ran.latencies)
        return {
            LOGINS: done,
            "servers' CPU, ms per login": used.servers / done,
            "Redis, ms per login": used.redis / done,
            OWN: used.own / done,
            **ran.figures(),
            **memory(before, after, *peaks),
        }

    def verdict(self, taken: Taken) -> list[str]:
        runs = [one for figures in taken.values() for one in figures]
        lost, logins = sum(one[LOST] for one in runs), sum(one[LOGINS] for one in runs)
        kept = median(one[KEPT] for one in runs)
        return [
            f"Lost: {lost:.0f} of {logins:.0f} logins and of the waiting browsers.",
            f"Retained growth after {SETTLE:.0f} s: {kept:.0f} % (median).",
            ceiling(taken, OWN, "logins"),
        ]


def memory(before: float, after: float, peak: float, next_peak: float) -> dict[str, float]:
    return {
        "RSS before, MB": before / MB,
        "peak growth, MB": (peak - before) / MB,
        "retained growth, MB": (after - before) / MB,
        KEPT: 100 * (after - before) / (peak - before),
        "peak growth of the second group, MB": (next_peak - before) / MB,
    }


@asynccontextmanager
async def watched(fleet: Fleet) -> AsyncIterator[list[int]]:
    """The servers' memory, looked at once a second while inside the block."""
    seen = [fleet.rss_bytes()]

    async def watch() -> None:
        while True:
            await asyncio.sleep(1)
            seen.append(fleet.rss_bytes())

    task = asyncio.create_task(watch())
    try:
        yield seen
    finally:
        task.cancel()
        await asyncio.wait([task])


ROW = Load()
