"""Instructions of a login, by step and by library."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from statistics import median

from bench import callgrind
from bench.benchmarks import Benchmark, Figures, Runs, Setup
from bench.fleet import Fleet, idle_cpu, wait_until_idle
from bench.load import LoadGenerator
from bench.targets import Browser
from bench.targets.counted import CountedTarget

LOGINS = 200
"""Equal in all runs: what a server does once is shared by them."""

ACCEPTED = Path(__file__).parent.parent / "instructions.json"
TOTAL = "a login, thousand instructions"
IDLE = "idle, thousand instructions per second"
IDLE_SECONDS = 10.0
SHOWN_MIN = 5.0
"""Thousand instructions a login from which a library has a separate row."""


class Instructions(Benchmark):
    question = (
        f"Instructions of a login in user space, counted by callgrind. {LOGINS} logins at one "
        "instance take a step one after the other, then the next step. Periodic work is off, and "
        "the remaining work is measured first and subtracted from the steps. Figures in thousands "
        "a login. `bench/instructions.json` has the accepted figure."
    )
    setups: Sequence[Setup] = (Setup("broker-counted", 1),)

    async def measure(self, fleet: Fleet, seconds: float) -> Figures:
        assert isinstance(fleet.target, CountedTarget)
        idle = await _idle_rate(fleet, fleet.target.folder)
        steps, libraries = await _count_steps(fleet, fleet.target.folder, idle)
        return {
            TOTAL: sum(steps.values()),
            IDLE: idle,
            **{f"of them {step}": count for step, count in steps.items()},
            **{f"of them in {name}": count for name, count in _rows(libraries)},
        }

    def verdict(self, runs: Runs) -> list[str]:
        measured = median(figures[TOTAL] for rounds in runs.values() for figures in rounds)
        accepted = json.loads(ACCEPTED.read_text())[TOTAL]
        return [f"{measured:.0f} instead of {accepted:.0f}: {measured / accepted:.3f}."]


async def _idle_rate(fleet: Fleet, folder: Path) -> float:
    """Start to count, and return the thousand instructions per second of the idle server."""
    [pid] = fleet.pids
    await callgrind.start(pid)
    start = time.perf_counter()
    await asyncio.sleep(IDLE_SECONDS)
    return (await callgrind.take(pid, folder)).total() / 1000 / (time.perf_counter() - start)


async def _count_steps(
    fleet: Fleet, folder: Path, idle_rate: float
) -> tuple[Mapping[str, float], Counter[str]]:
    """Return the thousand instructions of a login by step, and by library.

    idle_rate: thousand instructions per second to subtract from each step.
    """
    [pid] = fleet.pids
    generator = LoadGenerator(fleet)
    idle = await idle_cpu(fleet)
    steps: dict[str, float] = {}
    libraries: Counter[str] = Counter()
    browsers: list[Browser] = []

    async def connect(number: int) -> None:
        browsers.append(await generator.connect(number))

    async def leave(number: int) -> None:
        browsers[number].close()

    acts: Mapping[str, Callable[[int], Awaitable[object]]] = {
        "connect": connect,
        "begin": lambda number: browsers[number].begin(),
        "scan": lambda number: generator.scan(browsers[number], number),
        "confirm": lambda number: generator.confirm(browsers[number], number),
        "redeem": lambda number: browsers[number].redeem(),
        "leave": leave,
    }
    await callgrind.take(pid, folder)
    for step, act in acts.items():
        start = time.perf_counter()
        for number in range(LOGINS):
            await act(number)
        await wait_until_idle(fleet, idle)
        counts = await callgrind.take(pid, folder)
        idle_work = idle_rate * (time.perf_counter() - start)
        steps[step] = (counts.total() / 1000 - idle_work) / LOGINS
        libraries += counts
    generator.close()
    return steps, Counter({name: count / LOGINS / 1000 for name, count in libraries.items()})


def _rows(libraries: Counter[str]) -> list[tuple[str, float]]:
    rows = [(name, count) for name, count in libraries.most_common() if count >= SHOWN_MIN]
    rest = libraries.total() - sum(count for _, count in rows)
    return [*rows, ("all others", rest)]


BENCHMARK = Instructions()
