"""The command `python -m bench`: runs benchmarks and writes the results."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from bench import results
from bench.benchmarks import BENCHMARKS, Benchmark, Figures, Runs, Setup, load_benchmark
from bench.fleet import Fleet, fleet, raise_file_limit
from bench.host import STEAL, Ticks
from bench.load import LoadGenerator, run_concurrently
from bench.targets import TARGETS, load_target

WARM_UP_CONCURRENCY = 16
"""Concurrent logins while the servers warm up."""


def main() -> None:
    options = _arguments()
    raise_file_limit()
    for name in options.rows or BENCHMARKS:
        uvloop.run(_run(name, options))


async def _run(name: str, options: argparse.Namespace) -> None:
    benchmark = load_benchmark(name)
    setups = [setup for setup in benchmark.setups if setup.target in (options.only or TARGETS)]
    runs = await run_rounds(benchmark, setups, options.rounds, options.seconds or benchmark.seconds)
    words = " ".join(sys.argv[1:]) or name
    command = f"python -m bench {words}"
    print(results.write(name, benchmark, runs, command, options.results), flush=True)


async def run_rounds(
    benchmark: Benchmark, setups: Sequence[Setup], rounds: int, seconds: float
) -> Runs:
    """Run every setup once per round, in reverse order in every second round."""
    runs: dict[Setup, list[Figures]] = {setup: [] for setup in setups}
    for number in range(rounds):
        for setup in setups[:: 1 if number % 2 == 0 else -1]:
            figures = await _run_once(benchmark, setup, seconds)
            runs[setup].append(figures)
            _log(f"round {number + 1} of {rounds}, {setup}: {figures}")
    return runs


async def _run_once(benchmark: Benchmark, setup: Setup, seconds: float) -> Figures:
    async with fleet(load_target(setup.target), setup.instances) as servers:
        if benchmark.warms_up:
            await _warm_up(servers)
        before = Ticks.now()
        figures = await benchmark.measure(servers, seconds)
        return {**figures, STEAL: before.steal_percent()}


async def _warm_up(servers: Fleet) -> None:
    generator = LoadGenerator(servers)
    seconds, logins = servers.target.warm_up
    result = await run_concurrently(
        generator.log_in, concurrency=WARM_UP_CONCURRENCY, seconds=seconds, min_acts=logins
    )
    generator.close()
    if result.lost:
        raise SystemExit(f"logins failed during the warm-up: {dict(result.lost)}")


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Run benchmarks and write the results to a file."
    )
    parser.add_argument(
        "rows",
        nargs="*",
        choices=[[], *BENCHMARKS],
        metavar="BENCHMARK",
        help=f"benchmarks to run: {', '.join(BENCHMARKS)} (default: all)",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=TARGETS,
        metavar="TARGET",
        help=f"targets to run: {', '.join(TARGETS)} (default: all of the benchmark)",
    )
    parser.add_argument(
        "--rounds", type=int, default=3, help="rounds of each setup (default: %(default)s)"
    )
    parser.add_argument("--seconds", type=float, help="duration of the load in a run")
    parser.add_argument(
        "--results",
        type=Path,
        default=results.FILE,
        metavar="FILE",
        help="file of the results, for a run with another Python (default: bench/RESULTS.md)",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
