"""The benchmarks: one file each, and a line in `BENCHMARKS`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import NamedTuple, Protocol

from bench.fleet import Fleet
from bench.plots import Plot

Figures = Mapping[str, float]
"""The figures of one run by name. A name includes the unit and is the title of a table row."""


class Setup(NamedTuple):
    """A target with a number of instances."""

    target: str
    instances: int

    def __str__(self) -> str:
        return f"{self.target}, {self.instances} instance{'s' * (self.instances != 1)}"


Runs = Mapping[Setup, Sequence[Figures]]
"""The figures of each setup, round by round."""


class Benchmark(Protocol):
    """One benchmark.

    question: the question and the method, printed above the table.
    setups: the setups, measured in turn, each with new servers.
    seconds: the default duration of the load in a run, if the benchmark has a duration.
    warms_up: whether the servers do many logins before the measurement.
    """

    question: str
    setups: Sequence[Setup]
    seconds: float = 0.0
    warms_up: bool = True

    async def measure(self, fleet: Fleet, seconds: float) -> Figures:
        """Put the load on the servers and return the figures."""

    def verdict(self, runs: Runs) -> list[str]:
        """Compare the figures with the bar, in one sentence per line."""

    def plots(self, runs: Runs) -> Sequence[Plot]:
        """Plots of the figures, if there are any."""
        return []


BENCHMARKS: Mapping[str, str] = {
    "memory": "bench.benchmarks.memory",
    "login": "bench.benchmarks.login",
    "pool": "bench.benchmarks.pool",
    "connect": "bench.benchmarks.connect",
    "idle": "bench.benchmarks.idle",
    "latency": "bench.benchmarks.latency",
    "growth": "bench.benchmarks.growth",
    "disconnect": "bench.benchmarks.disconnect",
    "load": "bench.benchmarks.load",
    "soak": "bench.benchmarks.soak",
    "oidc": "bench.benchmarks.oidc",
    "tunnel": "bench.benchmarks.tunnel",
    "tunnel-memory": "bench.benchmarks.tunnel_memory",
    "chat": "bench.benchmarks.chat",
    "chat-memory": "bench.benchmarks.chat_memory",
    "instructions": "bench.benchmarks.instructions",
}


def load_benchmark(name: str) -> Benchmark:
    found: Benchmark = import_module(BENCHMARKS[name]).BENCHMARK
    return found
