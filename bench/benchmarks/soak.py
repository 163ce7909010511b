"""Many waiting browsers for ten minutes, then the disconnect of all of them."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from typing import NamedTuple

import aiohttp

from bench.benchmarks import Benchmark, Figures, Runs, Setup
from bench.benchmarks.compare import judge, median_of
from bench.fleet import Fleet, Meter, idle_cpu, wait_until_idle
from bench.keepalive import address
from bench.load import LOST, LoadGenerator, run_at_rate
from bench.plots import Plot
from bench.targets import Browser
from tests.chaos.probe import probing

BROWSERS = 15_000
"""Less than the common limit of open files (20 000), and than the ports from one address to
one server (28 000)."""

RATE = 20
"""Whole logins per second."""

IDLE_SECONDS = 5.0
"""Seconds in which the idle CPU is measured, before the first browser connects."""

PULSE_DELAY = 1.0
"""Seconds of requests to /health/live before the drop."""

SETTLE_DELAY = 10.0
"""Seconds between idle after the drop and the last reading of the memory."""

PARTS = 10
"""Parts of the run. The memory is read after each part."""

GROWTH_BAR = 5.0
LATE_BAR = 1.0
LIVE_BAR_MS = 1000.0  # as under the faults of tests/chaos
MB = 1e6

WAITING = re.compile(r"^scanlogin_waiting_browsers (\S+)$", re.MULTILINE)

HELD, LOGINS, CLOSED = "duration, s", "logins", "closed browsers"
PINGS, LATE = "PINGs per browser, minimum", "largest PING delay, s"
GROWN, GROWN_SHARE = "growth after the first tenth, MB", "growth after the first tenth, %"
FILES = "additional open files after the drop"
BEFORE, AFTER = "waiting in /metrics before the drop", "waiting in /metrics after the drop"
CPU, IDLE_TIME, LIVE = "drop: CPU, s", "drop: time until idle, s", "drop: slowest /health/live, ms"


class Soak(Benchmark):
    question = (
        f"{BROWSERS} browsers wait at one instance for a long time and then disconnect at once. "
        f"Each has begun a login. While they wait, {RATE} more logins per second are begun, "
        "scanned, confirmed and redeemed. A PING is due one pingInterval of the server after the "
        "previous one. Then every browser breaks its connection without a close frame. The server "
        "is idle once its CPU has been low for two half seconds in a row; until then /health/live "
        "is requested ten times per second. Memory is the resident set; after the drop, it is read "
        f"{SETTLE_DELAY:.0f} s later. "
        f"Bar: at most {GROWTH_BAR:g} % more memory than after the first tenth of the time; no "
        f"PING later than {LATE_BAR:g} s; no login and no socket lost; /health/live within "
        f"{LIVE_BAR_MS:g} ms; no browser counted as waiting after the drop."
    )
    setups: Sequence[Setup] = [Setup("broker", 1)]
    seconds = 600.0

    async def measure(self, fleet: Fleet, seconds: float) -> Figures:
        generator = LoadGenerator(fleet)
        empty = await _idle_state(fleet)
        start = time.perf_counter()
        browsers = await generator.gather(BROWSERS)
        connect_time = time.perf_counter() - start
        held = await _hold(fleet, generator, browsers, seconds)
        generator.close()
        dropped = await _drop(fleet, browsers, empty)
        return {
            "time until all wait, s": connect_time,
            "RSS before, MB": empty.rss / MB,
            **held,
            **dropped,
        }

    def verdict(self, runs: Runs) -> list[str]:
        lost, logins, closed = (_total(runs, one) for one in (LOST, LOGINS, CLOSED))
        grown, late, live = (_worst(runs, one) for one in (GROWN_SHARE, LATE, LIVE))
        return [
            f"Memory grew by {grown:.1f} % ({_worst(runs, GROWN):.1f} MB) after the first tenth; "
            f"{judge(grown, GROWTH_BAR, ' %')}.",
            f"The largest PING delay was {late:.2f} s, with at least "
            f"{min(_all(runs, PINGS)):.0f} PINGs per browser; {judge(late, LATE_BAR, ' s')}.",
            f"Lost: {lost:.0f} of {logins + lost:.0f} logins; {closed:.0f} browsers were closed; "
            f"{judge(lost + closed, 0)}.",
            f"Idle {_worst(runs, IDLE_TIME):.1f} s after the drop, with {_worst(runs, CPU):.2f} s "
            f"of CPU. Waiting in /metrics: {min(_all(runs, BEFORE)):.0f} before, "
            f"{_worst(runs, AFTER):.0f} after; {judge(_worst(runs, AFTER), 0)}.",
            f"Slowest /health/live until idle: {live:.0f} ms; {judge(live, LIVE_BAR_MS, ' ms')}.",
        ]

    def plots(self, runs: Runs) -> Sequence[Plot]:
        lines = {
            str(setup): [_point(runs, setup, part) for part in range(PARTS + 1)] for setup in runs
        }
        return [Plot("Memory over time", "s", "RSS, MB", lines)]


class IdleState(NamedTuple):
    """An idle server. cpu: ms per second. rss: bytes."""

    cpu: float
    rss: int
    files: int


async def _idle_state(fleet: Fleet) -> IdleState:
    return IdleState(await idle_cpu(fleet, IDLE_SECONDS), fleet.rss_bytes(), fleet.open_files())


async def _hold(
    fleet: Fleet, generator: LoadGenerator, browsers: Sequence[Browser], seconds: float
) -> Figures:
    meter = Meter(fleet)
    result, sizes = await asyncio.gather(
        run_at_rate(generator.log_in, rate=RATE, seconds=seconds), _sizes(fleet, seconds)
    )
    cpu, held = meter.read(), meter.seconds
    pings = [browser.pings for browser in browsers]
    return {
        HELD: held,
        "server's CPU, % of a core": cpu.servers / held / 10,
        LOGINS: len(result.latencies),
        **result.figures(),
        CLOSED: sum(not browser.is_waiting for browser in browsers),
        PINGS: min(ping.received for ping in pings),
        LATE: max(ping.max_delay for ping in pings),
        **{after(part): size / MB for part, size in enumerate(sizes)},
        GROWN: (sizes[-1] - sizes[1]) / MB,
        GROWN_SHARE: 100 * (sizes[-1] - sizes[1]) / sizes[1],
        BEFORE: await _waiting(fleet),
    }


async def _sizes(fleet: Fleet, seconds: float) -> list[int]:
    """The server's memory now and after each part of the run."""
    sizes = [fleet.rss_bytes()]
    for _ in range(PARTS):
        await asyncio.sleep(seconds / PARTS)
        sizes.append(fleet.rss_bytes())
    return sizes


async def _drop(fleet: Fleet, browsers: Sequence[Browser], empty: IdleState) -> Figures:
    with probing([ProbeTarget(*address(url)) for url in fleet.urls]) as start:
        await asyncio.sleep(PULSE_DELAY)
        meter = Meter(fleet)
        for browser in browsers:
            browser.drop()
        await wait_until_idle(fleet, empty.cpu)
        cpu, took = meter.read(), meter.seconds
    await asyncio.sleep(SETTLE_DELAY)
    files = fleet.open_files()  # before the request of /metrics, which opens a connection
    return {
        CPU: (cpu.servers - empty.cpu * took) / 1000,
        IDLE_TIME: took,
        LIVE: 1000 * max(probe.slowest for probe in start),
        AFTER: await _waiting(fleet),
        FILES: files - empty.files,
        "RSS after the drop, MB": fleet.rss_bytes() / MB,
    }


class ProbeTarget(NamedTuple):
    """A server whose /health/live is requested."""

    host: str
    port: int
    serving: bool = True


async def _waiting(fleet: Fleet) -> float:
    """The number of waiting browsers in the servers' metrics."""
    ports = fleet.ports() - {address(url)[1] for url in fleet.urls}
    async with aiohttp.ClientSession() as http:
        return sum([await _gauge(http, port) for port in ports])


async def _gauge(http: aiohttp.ClientSession, port: int) -> float:
    async with http.get(f"http://127.0.0.1:{port}/metrics") as response:
        [waiting] = WAITING.findall(await response.text())
    return float(waiting)


def after(part: int) -> str:
    return f"RSS after {part}/{PARTS}, MB"


def _point(runs: Runs, setup: Setup, part: int) -> tuple[float, float]:
    return (
        median_of(runs, setup, HELD) * part / PARTS,
        median_of(runs, setup, after(part)),
    )


def _all(runs: Runs, figure: str) -> list[float]:
    return [one[figure] for rounds in runs.values() for one in rounds]


def _worst(runs: Runs, figure: str) -> float:
    return max(_all(runs, figure))


def _total(runs: Runs, figure: str) -> float:
    return sum(_all(runs, figure))


BENCHMARK = Soak()
