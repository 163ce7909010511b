"""Writes RESULTS.md, with one section per benchmark. A run replaces its section."""

from __future__ import annotations

import math
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from bench.benchmarks import BENCHMARKS, Benchmark, Runs
from bench.plots import Plot, svg
from bench.targets import load_target
from tests.support.servers.redis import redis_program

FILE = Path(__file__).parent / "RESULTS.md"
PLOTS = "plots"

HEAD = """# Benchmark results

`make bench` writes this file. Each section is from the last run of its benchmark. A figure
is the median of its rounds, with minimum and maximum in brackets. CPU is user and
system time that the kernel counts for all processes of the servers. The load generator
and Redis run on the same machine and are counted separately. A bar is a limit that the
broker should meet.

Compare figures within one table only: the same figure on another day, or on a machine
with other load, may be twice as large. A Python without profile-guided optimization,
which is pyenv's default, needs a tenth more CPU for a login than Debian's.
"""


def write(name: str, benchmark: Benchmark, runs: Runs, command: str, file: Path) -> str:
    """Write the section of a benchmark into the file. Returns the section."""
    section = "\n".join([f"## {name}", "", *_section(benchmark, runs, command), ""])
    file.parent.mkdir(exist_ok=True, parents=True)
    for plot in benchmark.plots(runs):
        _write_plot(plot, file.parent)
    sections = _sections(file.read_text()) if file.exists() else {}
    sections[name] = section
    file.write_text("\n".join([HEAD, *(sections[one] for one in sorted(sections, key=_position))]))
    return section


def _write_plot(plot: Plot, folder: Path) -> None:
    path = folder / PLOTS / plot.file
    path.parent.mkdir(exist_ok=True)
    path.write_text(svg(plot))


def _sections(text: str) -> dict[str, str]:
    parts = re.split(r"^(?=## )", text, flags=re.MULTILINE)[1:]
    return {part.splitlines()[0].removeprefix("## "): part.rstrip() + "\n" for part in parts}


def _position(name: str) -> int:
    """The order of sections is the order of `BENCHMARKS`. Unknown sections are last."""
    return [*BENCHMARKS, name].index(name)


def _section(benchmark: Benchmark, runs: Runs, command: str) -> Iterator[str]:
    yield benchmark.question
    yield ""
    yield from _table(runs)
    yield ""
    yield from (f"- {line}" for line in benchmark.verdict(runs))
    yield ""
    yield from (f"![{plot.title}]({PLOTS}/{plot.file})\n" for plot in benchmark.plots(runs))
    rounds = len(next(iter(runs.values())))
    yield f"Rounds: {rounds}. `{command}`, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC. {_machine()}"
    yield f"{_versions(runs)}."


def _table(runs: Runs) -> Iterator[str]:
    setups = list(runs)
    yield "| | " + " | ".join(map(str, setups)) + " |"
    yield "|---|" + "---|" * len(setups)
    for name in runs[setups[0]][0]:
        values = (_spread([figures[name] for figures in runs[setup]]) for setup in setups)
        yield f"| {name} | " + " | ".join(values) + " |"


def _spread(values: Sequence[float]) -> str:
    mid = _number(median(values))
    low, high = _number(min(values)), _number(max(values))
    return mid if low == high else f"{mid} [{low}–{high}]"


def _number(value: float) -> str:
    """At most three significant digits, which is the precision of the measurement."""
    if value == round(value) or abs(value) >= 100 or math.isnan(value):
        return f"{value:.0f}"
    return f"{value:.3g}"


def _machine() -> str:
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    total = re.search(r"^MemTotal: +(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)
    cpu = model[1] if model else platform.machine()
    gib = int(total[1]) / 2**20 if total else math.nan
    return f"{os.cpu_count()} × {cpu}, {gib:.0f} GiB, Linux {platform.release()};"


def _versions(runs: Runs) -> str:
    versions: dict[str, str] = {"Python": _python(), "Redis": _redis()}
    for name in {setup.target: None for setup in runs}:
        versions |= load_target(name).versions()
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _python() -> str:
    suffix = " (system)" if sys.base_prefix == "/usr" else ""
    return platform.python_version() + suffix


def _redis() -> str:
    output = subprocess.run(
        [redis_program(), "--version"], capture_output=True, text=True, check=True
    )
    version = re.search(r"v=(\S+)", output.stdout)
    return version[1] if version else "unknown"
