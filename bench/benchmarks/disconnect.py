"""CPU of a disconnect while many other browsers wait."""

from __future__ import annotations

from collections.abc import Sequence

from bench.benchmarks import Benchmark, Figures, Runs, Setup
from bench.benchmarks.compare import BROKER, compare_with_peers, judge, median_of, setups
from bench.fleet import Fleet, Meter, idle_cpu, wait_until_idle
from bench.load import LoadGenerator, close_all

WAITING = 10_000
LEAVING = 1_000
PINGS = 25.0
"""Seconds in which a server sends every browser a PING."""

BAR_MS = 0.04
SERVER_CPU = "server's CPU, ms per disconnect"


class Disconnect(Benchmark):
    question = (
        f"CPU of a disconnect while {WAITING} other browsers wait. {WAITING + LEAVING} browsers "
        f"have begun a login at one instance, and {LEAVING} of them disconnect at once. The CPU "
        f"is read when the instance is idle again, minus its idle CPU. Bar: {BAR_MS} ms."
    )
    setups: Sequence[Setup] = setups(1)

    async def measure(self, fleet: Fleet, seconds: float) -> Figures:
        generator = LoadGenerator(fleet)
        browsers = await generator.gather(WAITING + LEAVING)
        idle = await idle_cpu(fleet, PINGS)
        meter = Meter(fleet)
        close_all(browsers[:LEAVING])
        await wait_until_idle(fleet, idle)
        cpu, took = meter.read(), meter.seconds
        close_all(browsers[LEAVING:])
        return {
            SERVER_CPU: (cpu.servers - idle * took) / LEAVING,
            "idle, ms per s": idle,
            "time until idle, s": took,
        }

    def verdict(self, runs: Runs) -> list[str]:
        return [_cost_line(runs, setup) for setup in runs] + compare_with_peers(runs, SERVER_CPU)


def _cost_line(runs: Runs, setup: Setup) -> str:
    cost = median_of(runs, setup, SERVER_CPU)
    bar_result = f"; {judge(cost, BAR_MS, ' ms')}" if setup.target == BROKER else ""
    return f"{setup}: {cost:.3f} ms{bar_result}."


BENCHMARK = Disconnect()
