"""Ten minutes of very many browsers that wait, and then the moment in which all are gone."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from typing import NamedTuple

import aiohttp

from bench.benchmarks import Cell, Figures, Row, Taken
from bench.benchmarks.compare import judged, middle
from bench.fleet import Fleet, Meter, at_rest, settled
from bench.keepalive import address
from bench.load import LOST, Crowd, steadily
from bench.plots import Plot
from bench.targets import Browser
from tests.chaos.pulse import pulses

BROWSERS = 15_000
"""Fewer than files that a process may commonly have open (20 000), and than ports that lead
from one address to one server (28 000)."""

RATE = 20
"""Whole logins per second."""

ALONE = 5.0
"""Seconds in which the server's rest is measured, before anybody comes."""

FELT = 1.0
"""Seconds for which /health/live has been asked when the drop comes."""

SETTLE = 10.0
"""Seconds between the server's rest after the drop and the last look at its memory."""

PARTS = 10
"""Of the time for which browsers are held; the memory is looked at after each."""

GROWTH_BAR = 5.0
LATE_BAR = 1.0
LIVE_BAR_MS = 1000.0  # as under the faults of tests/chaos
MB = 1e6

WAITING = re.compile(r"^scanlogin_waiting_browsers (\S+)$", re.MULTILINE)

HELD, LOGINS, GONE = "duration, s", "logins", "closed browsers"
PINGS, LATE = "PINGs per browser, minimum", "largest PING delay, s"
GROWN, GROWN_SHARE = "growth after the first tenth, MB", "growth after the first tenth, %"
FILES = "additional open files after the drop"
BEFORE, AFTER = "waiting in /metrics before the drop", "waiting in /metrics after the drop"
CPU, REST, LIVE = "drop: CPU, s", "drop: time until idle, s", "drop: slowest /health/live, ms"


class Soak(Row):
    question = (
        f"{BROWSERS} browsers wait at one instance for a long time and then disconnect at once. "
        f"Each has begun a login. While they wait, {RATE} more logins per second are begun, "
        "scanned, confirmed and redeemed. A PING is due one pingInterval of the server after the "
        "previous one. Then every browser breaks its connection without a close frame. The server "
        "is idle once its CPU has been low for two half seconds in a row; until then /health/live "
        "is requested ten times per second. Memory is the resident set; after the drop, it is read "
        f"{SETTLE:.0f} s later. "
        f"Bar: at most {GROWTH_BAR:g} % more memory than after the first tenth of the time; no "
        f"PING later than {LATE_BAR:g} s; no login and no socket lost; /health/live within "
        f"{LIVE_BAR_MS:g} ms; no browser counted as waiting after the drop."
    )
    cells: Sequence[Cell] = [Cell("broker", 1)]
    seconds = 600.0

    async def measure(self, fleet: Fleet, seconds: float) -> Figures:
        crowd = Crowd(fleet)
        empty = await _looked_at(fleet)
        start = time.perf_counter()
        browsers = await crowd.gather(BROWSERS)
        came = time.perf_counter() - start
        held = await _hold(fleet, crowd, browsers, seconds)
        crowd.close()
        dropped = await _drop(fleet, browsers, empty)
        return {"time until all wait, s": came, "RSS before, MB": empty.rss / MB, **held, **dropped}

    def verdict(self, taken: Taken) -> list[str]:
        lost, logins, gone = (_total(taken, one) for one in (LOST, LOGINS, GONE))
        grown, late, live = (_worst(taken, one) for one in (GROWN_SHARE, LATE, LIVE))
        return [
            f"Memory grew by {grown:.1f} % ({_worst(taken, GROWN):.1f} MB) after the first tenth; "
            f"{judged(grown, GROWTH_BAR, ' %')}.",
            f"The largest PING delay was {late:.2f} s, with at least "
            f"{min(_all(taken, PINGS)):.0f} PINGs per browser; {judged(late, LATE_BAR, ' s')}.",
            f"Lost: {lost:.0f} of {logins + lost:.0f} logins; {gone:.0f} browsers were closed; "
            f"{judged(lost + gone, 0)}.",
            f"Idle {_worst(taken, REST):.1f} s after the drop, with {_worst(taken, CPU):.2f} s "
            f"of CPU. Waiting in /metrics: {min(_all(taken, BEFORE)):.0f} before, "
            f"{_worst(taken, AFTER):.0f} after; {judged(_worst(taken, AFTER), 0)}.",
            f"Slowest /health/live until idle: {live:.0f} ms; {judged(live, LIVE_BAR_MS, ' ms')}.",
        ]

    def plots(self, taken: Taken) -> Sequence[Plot]:
        lines = {
            str(cell): [_point(taken, cell, part) for part in range(PARTS + 1)] for cell in taken
        }
        return [Plot("Memory over time", "s", "RSS, MB", lines)]


class Look(NamedTuple):
    """A server on which nobody calls; cpu: ms a second."""

    cpu: float
    rss: int
    files: int


async def _looked_at(fleet: Fleet) -> Look:
    return Look(await at_rest(fleet, ALONE), fleet.rss_bytes(), fleet.open_files())


async def _hold(fleet: Fleet, crowd: Crowd, browsers: Sequence[Browser], seconds: float) -> Figures:
    meter = Meter(fleet)
    ran, sizes = await asyncio.gather(
        steadily(crowd.log_in, rate=RATE, seconds=seconds), _sizes(fleet, seconds)
    )
    used, held = meter.read(), meter.seconds
    pings = [browser.pings for browser in browsers]
    return {
        HELD: held,
        "server's CPU, % of a core": used.servers / held / 10,
        LOGINS: len(ran.latencies),
        **ran.figures(),
        GONE: sum(not browser.waits for browser in browsers),
        PINGS: min(ping.heard for ping in pings),
        LATE: max(ping.late for ping in pings),
        **{after(part): size / MB for part, size in enumerate(sizes)},
        GROWN: (sizes[-1] - sizes[1]) / MB,
        GROWN_SHARE: 100 * (sizes[-1] - sizes[1]) / sizes[1],
        BEFORE: await _waiting(fleet),
    }


async def _sizes(fleet: Fleet, seconds: float) -> list[int]:
    """The server's memory now and after each part of the time."""
    sizes = [fleet.rss_bytes()]
    for _ in range(PARTS):
        await asyncio.sleep(seconds / PARTS)
        sizes.append(fleet.rss_bytes())
    return sizes


async def _drop(fleet: Fleet, browsers: Sequence[Browser], empty: Look) -> Figures:
    with pulses([Asked(*address(url)) for url in fleet.urls]) as asked:
        await asyncio.sleep(FELT)
        meter = Meter(fleet)
        for browser in browsers:
            browser.drop()
        await settled(fleet, empty.cpu)
        used, took = meter.read(), meter.seconds
    await asyncio.sleep(SETTLE)
    files = fleet.open_files()  # before /metrics is asked, over a connection of its own
    return {
        CPU: (used.servers - empty.cpu * took) / 1000,
        REST: took,
        LIVE: 1000 * max(pulse.slowest for pulse in asked),
        AFTER: await _waiting(fleet),
        FILES: files - empty.files,
        "RSS after the drop, MB": fleet.rss_bytes() / MB,
    }


class Asked(NamedTuple):
    """A server whose pulse is felt."""

    host: str
    port: int
    serving: bool = True


async def _waiting(fleet: Fleet) -> float:
    """How many browsers the servers take to wait, by what they tell their operator."""
    ports = fleet.ports() - {address(url)[1] for url in fleet.urls}
    async with aiohttp.ClientSession() as http:
        return sum([await _gauge(http, port) for port in ports])


async def _gauge(http: aiohttp.ClientSession, port: int) -> float:
    async with http.get(f"http://127.0.0.1:{port}/metrics") as response:
        [waiting] = WAITING.findall(await response.text())
    return float(waiting)


def after(part: int) -> str:
    return f"RSS after {part}/{PARTS}, MB"


def _point(taken: Taken, cell: Cell, part: int) -> tuple[float, float]:
    return (middle(taken, cell, HELD) * part / PARTS, middle(taken, cell, after(part)))


def _all(taken: Taken, figure: str) -> list[float]:
    return [one[figure] for rounds in taken.values() for one in rounds]


def _worst(taken: Taken, figure: str) -> float:
    return max(_all(taken, figure))


def _total(taken: Taken, figure: str) -> float:
    return sum(_all(taken, figure))


ROW = Soak()
