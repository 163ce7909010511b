"""Compares the targets with the peers, round by round, for bars that are ratios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from types import MappingProxyType

from bench.benchmarks import Runs, Setup

NODE = "node"
BUN = "bun"
PEERS = (NODE, BUN)
BETTER_PEER = "the better peer"
BROKER = "broker"
ALL_TARGETS = (BROKER, NODE, "node-sharded", BUN, "bun-ws", "stock")

Bars = Mapping[str, float]
"""The bars of the broker as shares of a figure of a peer, by peer or BETTER_PEER."""

NO_BARS: Bars = MappingProxyType({})


def setups(*instances: int, targets: Sequence[str] = ALL_TARGETS) -> list[Setup]:
    return [Setup(name, number) for number in instances for name in targets]


def median_of(runs: Runs, setup: Setup, figure: str) -> float:
    return median(one[figure] for one in runs[setup])


def compare_with_peers(runs: Runs, figure: str, *, bars: Bars = NO_BARS) -> list[str]:
    """Lines: the `figure` of the broker divided by that of each peer, then the others by Node.

    A line compares setups with as many instances.
    """
    broker = [_broker_lines(runs, setup, figure, bars) for setup in runs if setup.target == BROKER]
    others = [(setup, setup._replace(target=NODE)) for setup in runs]
    return [line for lines in broker for line in lines] + [
        compare_setups(runs, setup, node, figure)
        for setup, node in others
        if setup.target not in (BROKER, NODE) and node in runs
    ]


def _broker_lines(runs: Runs, setup: Setup, figure: str, bars: Bars) -> list[str]:
    peers = [peer for name in PEERS if (peer := setup._replace(target=name)) in runs]
    better = min(peers, key=lambda peer: median_of(runs, peer, figure), default=None)
    shared = bars.get(BETTER_PEER)
    return [
        compare_setups(
            runs,
            setup,
            peer,
            figure,
            bar=bars.get(peer.target, shared if peer == better else None),
        )
        for peer in peers
    ]


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
