"""The table of faults, printed at the end and written to the docs by `make chaos`."""

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
    """Return each row as a line of Markdown by its fault."""
    return {row.fault: f"| {' | '.join(row.cells())} |\n" for row in rows}


def write(page: Path, rows: Iterable[Row]) -> None:
    """Write the rows between the marks of the page. Other faults keep their rows."""
    before, _, rest = page.read_text().partition(BEGINS)
    old_table, _, after = rest.partition(ENDS)
    old_rows = {
        match[1]: match[0] for match in re.finditer(r"^\| (\S.*?) \| \d.*\n", old_table, re.M)
    }
    table = HEAD + "".join({**old_rows, **lines(rows)}.values())
    page.write_text(f"{before}{BEGINS}{table}{ENDS}{after}")
