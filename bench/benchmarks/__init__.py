"""What is measured: one file a question, each a row of `ROWS`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import NamedTuple, Protocol

from bench.fleet import Fleet
from bench.plots import Plot

Figures = Mapping[str, float]
"""What one run gave; the names carry the units and head the columns."""


class Cell(NamedTuple):
    """Who is measured, with how many servers."""

    candidate: str
    instances: int

    def __str__(self) -> str:
        return f"{self.candidate}, {self.instances} instance{'s' * (self.instances != 1)}"


Taken = Mapping[Cell, Sequence[Figures]]
"""What every cell gave, round by round."""


class Row(Protocol):
    """question: what is asked, and how it is measured; it stands above the table.
    cells: measured in turn, each on fresh servers.
    seconds: how long a run's load lasts unless told otherwise, where that is for us to say.
    warm: whether the servers have done many logins before.
    """

    question: str
    cells: Sequence[Cell]
    seconds: float = 0.0
    warm: bool = True

    async def measure(self, fleet: Fleet, seconds: float) -> Figures:
        """Put the load on servers that are warm, and read the figures."""

    def verdict(self, taken: Taken) -> list[str]:
        """What the figures say of the bar, a sentence a line."""

    def plots(self, taken: Taken) -> Sequence[Plot]:
        """The figures drawn, where there is a line to see."""
        return []


ROWS: Mapping[str, str] = {
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
}


def row(name: str) -> Row:
    found: Row = import_module(ROWS[name]).ROW
    return found
