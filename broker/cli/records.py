"""`scan-login records`: how the database stands."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import typer

from broker.cli.support import ConfigFile, T, read_settings
from broker.parts import records_of
from broker.records.store import Records

command = typer.Typer(no_args_is_help=True, help="The database of apps and users.")


@command.command()
def status(file: ConfigFile = None) -> None:
    """Print where the records are and whether they are up to date; the exit code says so too."""
    place, now = _closed(file, lambda records: records.status())
    print(f"{place} is at revision {now.revision or 'none'}")
    if now.missing:
        sys.exit(
            f"missing: {', '.join(now.missing)}; the next start of a broker brings them, "
            "or scan-login records migrate"
        )
    print("up to date")


@command.command()
def migrate(file: ConfigFile = None) -> None:
    """Bring the tables up to date, as each start of a broker does."""
    place, missing = _closed(file, lambda records: records.migrate())
    print(f"{place} is up to date; missing before: {', '.join(missing) or 'nothing'}")


def _closed(file: Path | None, work: Callable[[Records], Awaitable[T]]) -> tuple[str, T]:
    """Where the records are, and what `work` makes of them before anything is read there."""

    async def main() -> tuple[str, T]:
        records = records_of(read_settings(file), time.time)
        try:
            return records.location, await work(records)
        finally:
            await records.close()

    return asyncio.run(main())
