"""Compares the targets with Node, round by round, for bars that are ratios."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from bench.benchmarks import Runs, Setup

BASELINE = "node"
BROKER = "broker"
ALL_TARGETS = ("broker", "node", "node-sharded", "stock")


def setups(*instances: int, targets: Sequence[str] = ALL_TARGETS) -> list[Setup]:
    return [Setup(name, number) for number in instances for name in targets]


def median_of(runs: Runs, setup: Setup, figure: str) -> float:
    return median(one[figure] for one in runs[setup])


def compare_with_node(runs: Runs, figure: str, *, bar: float | None = None) -> list[str]:
    """One line per target: its `figure` divided by Node's with as many instances."""
    pairs = [(setup, setup._replace(target=BASELINE)) for setup in runs if setup.target != BASELINE]
    return [_line(runs, setup, node, figure, bar) for setup, node in pairs if node in runs]


def _line(runs: Runs, setup: Setup, node: Setup, figure: str, bar: float | None) -> str:
    return compare_setups(runs, setup, node, figure, bar=bar if setup.target == BROKER else None)


def compare_setups(
    runs: Runs, setup: Setup, other: Setup, figure: str, *, bar: float | None = None
) -> str:
    """Return a line: the `figure` of `setup` divided by that of `other`."""
    pairs = zip(runs[setup], runs[other], strict=True)
    shares = [one[figure] / its[figure] for one, its in pairs]
    share = median_of(runs, setup, figure) / median_of(runs, other, figure)
    bar_result = "" if bar is None else f"; {judge(share, bar)}"
    return (
        f"{figure}: {setup} {share:.2f} of {other} "
        f"({min(shares):.2f}–{max(shares):.2f} by round){bar_result}."
    )


def judge(value: float, bar: float, unit: str = "") -> str:
    return f"bar {bar:g}{unit}: {'met' if value <= bar else '**missed**'}"


def generator_limit(runs: Runs, figure: str, what: str) -> str:
    """The maximum rate of the load generator, from its CPU per operation in ms."""
    cost = median(one[figure] for rounds in runs.values() for one in rounds)
    return (
        f"Limit of the load generator, at {cost:.2g} ms: "
        f"{1000 / cost:.0f} {what} per second on a dedicated core."
    )
