"""Output of the commands: JSON for programs, aligned columns for people."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.cells import cell_len

Item = Mapping[str, object]
"""One thing that a command prints, as it is in JSON."""

Columns = Mapping[str, Callable[[Item], object]]
"""The columns of a table: each heading, and the cell of an item."""

JSONOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def print_json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_list(
    items: Sequence[Item], columns: Columns, *, as_json: bool, empty_note: str = ""
) -> None:
    """Print all fields of the items as JSON, or the columns as a table.

    empty_note: printed instead of a table without rows.
    """
    if as_json:
        print_json(items)
    elif items or not empty_note:
        print_table([*columns], [[cell(item) for cell in columns.values()] for item in items])
    else:
        print(empty_note)


def print_item(item: Item, *, as_json: bool, times: Sequence[str] = ()) -> None:
    """Print the fields of an item, one on each line. For people, fields without value are left out.

    times: the fields that are Unix times in seconds.
    """
    if as_json:
        print_json(item)
        return
    shown = {name: time_of(name)(item) if name in times else item[name] for name in item}
    print_columns([[name, text(value)] for name, value in shown.items() if has_text(value)])


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print columns with a header line."""
    print_columns([[name.upper() for name in header], *([*map(text, row)] for row in rows)])


def print_columns(lines: Sequence[Sequence[str]]) -> None:
    """Print lines of cells as aligned columns. A Chinese character is two cells wide."""
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (
            cell + " " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True)
        )
        print("  ".join(cells).rstrip())


def time_of(name: str) -> Callable[[Item], datetime | None]:
    """Return a cell for a field that is a Unix time in seconds, or None."""

    def cell(item: Item) -> datetime | None:
        value = item.get(name)
        return datetime.fromtimestamp(value, UTC) if isinstance(value, int | float) else None

    return cell


def field(name: str) -> Callable[[Item], object]:
    """Return a cell for a field that an item may lack."""
    return lambda item: item.get(name)


def has_text(value: object) -> bool:
    return value not in (None, "", [])


def text(value: object) -> str:
    """Return a value as people read it. `-` stands for no value.

    Terminals obey control characters, and people choose their names: these are replaced.
    """
    if not has_text(value):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%SZ}"
    if isinstance(value, list | tuple):
        return ", ".join(map(text, value))
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value))
