"""Shared by the commands: settings, open records, errors."""

from __future__ import annotations

import asyncio
import os
import pwd
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeVar

import typer

from broker.apps.errors import InvalidApp
from broker.audit.model import AuditEntry, AuditKind
from broker.errors import BrokerError
from broker.identity.errors import ProviderUnavailable
from broker.infrastructure.settings_sources import PREFIX
from broker.pool.errors import PicturesUnavailable
from broker.records.errors import RecordsUnavailable
from broker.users.errors import InvalidUser

if TYPE_CHECKING:
    from broker.infrastructure.settings import Settings
    from broker.records.store import Records

T = TypeVar("T")

DEFAULT_CONFIG_FILE = Path("scan-login.toml")

USAGE_ERROR = 2
"""Exit code for wrong arguments, as of typer."""

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        envvar=f"{PREFIX}CONFIG",
        help=f"TOML file with settings. Default: {DEFAULT_CONFIG_FILE}, if it exists.",
        show_default=False,
    ),
]

YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


def settings_file(file: Path | None) -> Path | None:
    return file or (DEFAULT_CONFIG_FILE if DEFAULT_CONFIG_FILE.exists() else None)


def read_settings(file: Path | None, **fixed: object) -> Settings:
    """Return the settings. Raises InvalidSettings."""
    # Imported here, because the help of a command does not need it.
    from broker.settings import load_settings

    return load_settings(settings_file(file), **fixed)


def with_records(
    settings: Settings, work: Callable[[Records], Awaitable[T]], *, log_level: str = "warning"
) -> T:
    """Open the records and return what `work` returns.  An error ends the command."""
    from broker.backends import open_records
    from broker.infrastructure.observability import logging as logs

    logs.configure(log_level)

    async def main() -> T:
        records = open_records(settings, time.time)
        await records.open()
        try:
            return await work(records)
        finally:
            await records.close()

    try:
        return asyncio.run(main())
    except RecordsUnavailable as error:
        sys.exit(f"the records cannot be reached: {error.reason}; {error.remedy}")
    except (ProviderUnavailable, PicturesUnavailable) as error:
        sys.exit(error.reason)
    except (InvalidApp, InvalidUser) as error:
        sys.exit("\n".join(error.mistakes))
    except BrokerError as error:
        sys.exit(str(error))


def with_change(
    settings: Settings,
    act: str,
    target: str,
    change: Callable[[Records], Awaitable[T]],
    *,
    log_level: str = "warning",
) -> T:
    """Like `with_records`, and write the change to the audit log unless it is refused.

    A failed change is written too, because a part may have been done. The change stays made if
    the audit log cannot be written, which stderr reports.

    act: the command, such as `app add`.
    target: the id of what is changed; empty if there is none.
    """

    return with_records(
        settings,
        lambda records: recorded(records, act, target, change(records)),
        log_level=log_level,
    )


async def recorded(records: Records, act: str, target: str, change: Awaitable[T]) -> T:
    """Make a change, and write it to the audit log as `with_change` does."""
    is_refused = False
    try:
        return await change
    except BrokerError as error:
        is_refused = error.status < 500
        raise
    finally:
        if not is_refused:
            await _record(records, _entry(act, target))


async def _record(records: Records, entry: AuditEntry) -> None:
    records.audit_trail.add(entry)
    try:
        await records.store_audit_entries()
    except RecordsUnavailable as error:
        print(f"the change is not in the audit log: {error.reason}", file=sys.stderr)


def _entry(act: str, target: str) -> AuditEntry:
    actor = f"cli:{_user_name()}"
    return AuditEntry(
        AuditKind.ADMIN, "done", time.time(), actor=actor, target=target or None, reason=act
    )


def _user_name() -> str:
    """Return the name of the user who has called sudo, or else of the process's user.

    A user without a name has a number.
    """
    number = os.getuid()
    if number == 0 and (caller := os.environ.get("SUDO_USER")):
        return caller
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def usage_error(message: str) -> NoReturn:
    """End the command because of its arguments."""
    print(message, file=sys.stderr)
    raise typer.Exit(USAGE_ERROR)
