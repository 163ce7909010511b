"""`scan-login records`: the database of apps, users and the audit log."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from broker.cli.output import JSONOption, print_json
from broker.cli.support import ConfigFile, T, read_settings

if TYPE_CHECKING:
    from broker.records.store import Records

command = typer.Typer(no_args_is_help=True)


@command.command()
def status(as_json: JSONOption = False, file: ConfigFile = None) -> None:
    """Print the database's location and revision. Exits with 1 if migrations are missing."""
    location, now = _with_unopened_records(file, lambda records: records.status())
    if as_json:
        print_json({"location": location, **now._asdict()})
        raise typer.Exit(bool(now.missing))
    print(f"{location} is at revision {now.revision or 'none'}")
    if now.missing:
        sys.exit(
            f"missing: {', '.join(now.missing)}; a broker migrates when it starts, or run "
            "scan-login records migrate"
        )
    print("up to date")


@command.command()
def migrate(file: ConfigFile = None) -> None:
    """Migrate the tables, as each broker does when it starts."""
    location, missing = _with_unopened_records(file, lambda records: records.migrate())
    print(f"{location} is up to date; applied: {', '.join(missing) or 'nothing'}")


def _with_unopened_records(
    file: Path | None, work: Callable[[Records], Awaitable[T]]
) -> tuple[str, T]:
    """Return the database's location, and what `work` returns.

    The records are not opened, since that migrates them.
    """
    from broker.backends import open_records

    async def main() -> tuple[str, T]:
        records = open_records(read_settings(file), time.time)
        try:
            return records.location, await work(records)
        finally:
            await records.close()

    return asyncio.run(main())
