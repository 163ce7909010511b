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
"""Whole logins a second."""

SETTLE = 10.0
"""Seconds between the last browser's leaving and the last look at the memory."""

BAR = 0.10
MB = 1e6
LOGINS, KEPT = "logins", "kept of the growth, %"
OWN = "generator, ms a login"


class Load(Row):
    question = (
        f"What becomes of logins, and of memory, under everyday load? {WAITING} browsers an "
        f"instance have begun a login and wait, while {RATE} logins a second are begun at one "
        "instance, scanned and confirmed at the next, and redeemed. Memory is the resident set "
        "of all servers together: warm and without a browser, at its highest, and "
        f"{SETTLE:.0f} s after every browser has left; nobody asks the servers to give memory "
        "back to the system. Then as many come again: growth beyond the first peak is "
        "memory that was not there for them to use. "
        f"Bar: nothing lost, at most {BAR:.0%} of the growth kept."
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
        ran.lost["a browser that waited"] += sum(not browser.waits for browser in browsers)
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
            "servers' CPU, ms a login": used.servers / done,
            "Redis, ms a login": used.redis / done,
            OWN: used.own / done,
            **ran.figures(),
            **memory(before, after, *peaks),
        }

    def verdict(self, taken: Taken) -> list[str]:
        runs = [one for figures in taken.values() for one in figures]
        lost, logins = sum(one[LOST] for one in runs), sum(one[LOGINS] for one in runs)
        kept = median(one[KEPT] for one in runs)
        return [
            f"Lost: {lost:.0f} of {logins:.0f} logins and of the browsers that waited.",
            f"Kept of the growth after {SETTLE:.0f} s: {kept:.0f} % (median).",
            ceiling(taken, OWN, "logins"),
        ]


def memory(before: float, after: float, peak: float, next_peak: float) -> dict[str, float]:
    return {
        "RSS before, MB": before / MB,
        "growth at its peak, MB": (peak - before) / MB,
        "growth kept, MB": (after - before) / MB,
        KEPT: 100 * (after - before) / (peak - before),
        "growth once as many have come again, MB": (next_peak - before) / MB,
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
