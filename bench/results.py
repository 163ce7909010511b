"""RESULTS.md: a section a row, written anew by each run of it."""

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

from bench.benchmarks import ROWS, Row, Taken
from bench.plots import Plot, svg
from bench.targets import candidate
from tests.support.servers.redis import redis_program

FILE = Path(__file__).parent / "RESULTS.md"
PLOTS = "plots"

HEAD = """# Benchmark results

`make bench` writes this file. Each section is from the last run of its row. A figure
is the median of its rounds, with minimum and maximum in brackets. CPU is user and
system time that the kernel counts for all processes of the servers. The load generator
and Redis run on the same machine and are counted separately. A bar is a limit that the
broker should meet.

Compare figures within one table only: the same figure on another day, or on a machine
with other load, may be twice as large. A Python without profile-guided optimization,
which is pyenv's default, needs a tenth more CPU for a login than Debian's.
"""


def write(name: str, row: Row, taken: Taken, command: str, file: Path = FILE) -> str:
    """Put the row's section in its place in the file; return the section."""
    section = "\n".join([f"## {name}", "", *_section(row, taken, command), ""])
    for plot in row.plots(taken):
        _drawn(plot, file.parent)
    sections = _sections(file.read_text()) if file.exists() else {}
    sections[name] = section
    file.write_text("\n".join([HEAD, *(sections[one] for one in sorted(sections, key=_place))]))
    return section


def _drawn(plot: Plot, folder: Path) -> None:
    path = folder / PLOTS / plot.file
    path.parent.mkdir(exist_ok=True)
    path.write_text(svg(plot))


def _sections(text: str) -> dict[str, str]:
    parts = re.split(r"^(?=## )", text, flags=re.MULTILINE)[1:]
    return {part.splitlines()[0].removeprefix("## "): part.rstrip() + "\n" for part in parts}


def _place(name: str) -> int:
    """Sections stand as the rows do; what is no row any more stands last."""
    return [*ROWS, name].index(name)


def _section(row: Row, taken: Taken, command: str) -> Iterator[str]:
    yield row.question
    yield ""
    yield from _table(taken)
    yield ""
    yield from (f"- {line}" for line in row.verdict(taken))
    yield ""
    yield from (f"![{plot.title}]({PLOTS}/{plot.file})\n" for plot in row.plots(taken))
    rounds = len(next(iter(taken.values())))
    yield f"Rounds: {rounds}. `{command}`, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC. {_machine()}"
    yield f"{_versions(taken)}."


def _table(taken: Taken) -> Iterator[str]:
    cells = list(taken)
    yield "| | " + " | ".join(map(str, cells)) + " |"
    yield "|---|" + "---|" * len(cells)
    for name in taken[cells[0]][0]:
        values = (_spread([figures[name] for figures in taken[cell]]) for cell in cells)
        yield f"| {name} | " + " | ".join(values) + " |"


def _spread(values: Sequence[float]) -> str:
    middle = _number(median(values))
    least, most = _number(min(values)), _number(max(values))
    return middle if least == most else f"{middle} [{least}–{most}]"


def _number(value: float) -> str:
    """Three figures at most: there is no more in them."""
    if value == round(value) or abs(value) >= 100 or math.isnan(value):
        return f"{value:.0f}"
    return f"{value:.3g}"


def _machine() -> str:
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    total = re.search(r"^MemTotal: +(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)
    cpu = model[1] if model else platform.machine()
    gib = int(total[1]) / 2**20 if total else math.nan
    return f"{os.cpu_count()} × {cpu}, {gib:.0f} GiB, Linux {platform.release()};"


def _versions(taken: Taken) -> str:
    versions: dict[str, str] = {"Python": _python(), "Redis": _redis()}
    for name in {cell.candidate: None for cell in taken}:
        versions |= candidate(name).versions()
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _python() -> str:
    whose = " (system)" if sys.base_prefix == "/usr" else ""
    return platform.python_version() + whose


def _redis() -> str:
    said = subprocess.run(
        [redis_program(), "--version"], capture_output=True, text=True, check=True
    )
    version = re.search(r"v=(\S+)", said.stdout)
    return version[1] if version else "unknown"
