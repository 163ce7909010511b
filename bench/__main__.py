"""Runs rows and writes what they gave: `python -m bench growth --rounds 3`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import uvloop

from bench import results
from bench.benchmarks import ROWS, Cell, Figures, Row, Taken, row
from bench.fleet import Fleet, fleet, raise_file_limit
from bench.host import STOLEN, Ticks
from bench.load import Crowd, eagerly
from bench.targets import CANDIDATES, candidate

WARM_UP_AT_ONCE = 16
"""Logins under way while servers warm up: as many a second as they manage."""


def main() -> None:
    asked = _arguments()
    raise_file_limit()
    for name in asked.rows or ROWS:
        uvloop.run(_run(name, asked))


async def _run(name: str, asked: argparse.Namespace) -> None:
    this = row(name)
    cells = [cell for cell in this.cells if cell.candidate in (asked.only or CANDIDATES)]
    taken = await take(this, cells, asked.rounds, asked.seconds or this.seconds)
    words = " ".join(sys.argv[1:]) or name
    print(results.write(name, this, taken, f"python -m bench {words}"), flush=True)


async def take(this: Row, cells: Sequence[Cell], rounds: int, seconds: float) -> Taken:
    """Every cell once a round, and the other way round in every second one."""
    taken: dict[Cell, list[Figures]] = {cell: [] for cell in cells}
    for number in range(rounds):
        for cell in cells[:: 1 if number % 2 == 0 else -1]:
            figures = await _once(this, cell, seconds)
            taken[cell].append(figures)
            _say(f"round {number + 1} of {rounds}, {cell}: {figures}")
    return taken


async def _once(this: Row, cell: Cell, seconds: float) -> Figures:
    async with fleet(candidate(cell.candidate), cell.instances) as servers:
        if this.warm:
            await _warm(servers)
        before = Ticks.now()
        figures = await this.measure(servers, seconds)
        return {**figures, STOLEN: before.stolen_since()}


async def _warm(servers: Fleet) -> None:
    crowd = Crowd(servers)
    seconds, logins = servers.candidate.warm_up
    ran = await eagerly(crowd.log_in, at_once=WARM_UP_AT_ONCE, seconds=seconds, least=logins)
    crowd.close()
    if ran.lost:
        raise SystemExit(f"logins fail already while warming up: {dict(ran.lost)}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure.")
    parser.add_argument("rows", nargs="*", choices=[[], *ROWS], help="all where none is named")
    parser.add_argument("--only", nargs="+", choices=CANDIDATES, help="of the candidates")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, help="of load in a run")
    return parser.parse_args()


if __name__ == "__main__":
    main()
