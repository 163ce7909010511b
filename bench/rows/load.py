"""A minute of everyday load: many browsers that wait, a steady stream of logins among them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from statistics import median

from bench.fleet import Fleet
from bench.load import Crowd, leave, percentile, steadily
from bench.rows import Cell, Figures, Taken

WAITING = 2_000
"""Browsers an instance that have begun a login and wait."""

RATE = 50
"""Whole logins a second."""

SETTLE = 10.0
"""Seconds between the last browser's leaving and the last look at the memory."""

BAR = 0.10
MB = 1e6
LOGINS, LOST, KEPT = "logins", "lost", "kept of the growth, %"


class Load:
    question = (
        f"What becomes of logins, and of memory, under everyday load? {WAITING} browsers an "
        f"instance have begun a login and wait, while {RATE} logins a second are begun at one "
        "instance, scanned and confirmed at the next, and redeemed. Memory is the resident set "
        "of all servers together: warm and without a browser, at its highest, and "
        f"{SETTLE:.0f} s after every browser has left; nobody asks the servers to give memory "
        "back to the system. "
        f"Bar: nothing lost, at most {BAR:.0%} of the growth kept."
    )
    cells: Sequence[Cell] = [Cell("broker", 2)]
    seconds = 60.0

    async def measure(self, fleet: Fleet, seconds: float) -> Figures:
        crowd = Crowd(fleet)
        before = fleet.rss_bytes()
        async with watched(fleet) as seen:
            browsers = await crowd.gather(WAITING * len(fleet.urls))
            servers, own = fleet.cpu_ms(), time.process_time()
            ran = await steadily(crowd.log_in, rate=RATE, seconds=seconds)
            servers, own = fleet.cpu_ms() - servers, time.process_time() - own
        gone = sum(not browser.waits for browser in browsers)
        leave(browsers)
        crowd.close()
        await asyncio.sleep(SETTLE)
        growth, kept = max(seen) - before, fleet.rss_bytes() - before
        done = len(ran.latencies)
        return {
            LOGINS: done,
            LOST: ran.lost.total() + gone,
            "confirm → event p50, ms": 1000 * percentile(ran.latencies, 0.5),
            "p99, ms": 1000 * percentile(ran.latencies, 0.99),
            "servers' CPU, ms a login": servers / done,
            "generator, ms a login": 1000 * own / done,
            "latest start, ms": 1000 * ran.lag,
            "RSS before, MB": before / MB,
            "growth at its peak, MB": growth / MB,
            "growth kept, MB": kept / MB,
            KEPT: 100 * kept / growth,
        }

    def verdict(self, taken: Taken) -> list[str]:
        runs = [one for figures in taken.values() for one in figures]
        lost, logins = sum(one[LOST] for one in runs), sum(one[LOGINS] for one in runs)
        kept = median(one[KEPT] for one in runs)
        return [
            f"Lost: {lost:.0f} of {logins:.0f} logins and of the browsers that waited.",
            f"Kept of the growth after {SETTLE:.0f} s: {kept:.0f} % (median).",
        ]


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
