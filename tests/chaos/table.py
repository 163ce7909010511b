"""The rows of all faults: printed at the end, and kept in the docs by `make chaos`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from tests.chaos.ledger import Row

BEGINS, ENDS = "<!-- faults -->\n", "<!-- /faults -->"

HEAD = """\
| fault | confirmed before | during | after | lost | double | slowest token | slowest answer |
|---|--:|--:|--:|--:|--:|--:|--:|
"""


def lines(rows: Iterable[Row]) -> dict[str, str]:
    """Each row as a line of Markdown, by its fault."""
    return {row.fault: f"| {' | '.join(row.cells())} |\n" for row in rows}


def write(page: Path, rows: Iterable[Row]) -> None:
    """Put the rows between the page's marks; faults that were not run keep the row they have."""
    before, _, rest = page.read_text().partition(BEGINS)
    former, _, after = rest.partition(ENDS)
    kept = {match[1]: match[0] for match in re.finditer(r"^\| (\S.*?) \| \d.*\n", former, re.M)}
    table = HEAD + "".join({**kept, **lines(rows)}.values())
    page.write_text(f"{before}{BEGINS}{table}{ENDS}{after}")
