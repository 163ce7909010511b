"""The candidates beside Node, round by round: how a bar that is a ratio is read."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from bench.benchmarks import Cell, Taken

PEER = "node"
OURS = "broker"
ALL = ("broker", "node", "node-sharded", "stock")


def cells(*instances: int, candidates: Sequence[str] = ALL) -> list[Cell]:
    return [Cell(name, number) for number in instances for name in candidates]


def middle(taken: Taken, cell: Cell, figure: str) -> float:
    return median(one[figure] for one in taken[cell])


def beside_node(taken: Taken, figure: str, *, bar: float | None = None) -> list[str]:
    """Each candidate's `figure` as a share of Node's with as many instances, a line each."""
    pairs = [(cell, cell._replace(candidate=PEER)) for cell in taken if cell.candidate != PEER]
    return [_line(taken, cell, node, figure, bar) for cell, node in pairs if node in taken]


def _line(taken: Taken, cell: Cell, node: Cell, figure: str, bar: float | None) -> str:
    pairs = zip(taken[cell], taken[node], strict=True)
    shares = [one[figure] / other[figure] for one, other in pairs]
    share = middle(taken, cell, figure) / middle(taken, node, figure)
    met = f"; {judged(share, bar)}" if cell.candidate == OURS and bar is not None else ""
    return (
        f"{figure}: {cell} {share:.2f} of {node} "
        f"({min(shares):.2f}–{max(shares):.2f} by round){met}."
    )


def judged(value: float, bar: float, unit: str = "") -> str:
    return f"bar {bar:g}{unit}: {'met' if value <= bar else '**missed**'}"


def ceiling(taken: Taken, figure: str, what: str) -> str:
    """How many the generator itself could do, at its own cost of each in ms."""
    own = median(one[figure] for rounds in taken.values() for one in rounds)
    return (
        f"Limit of the load generator, at {own:.2g} ms: "
        f"{1000 / own:.0f} {what} per second on a dedicated core."
    )
