"""`scan-login doctor`: check an installation."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from broker.cli.output import Columns, JSONOption, field, print_columns, print_json, print_list
from broker.cli.support import ConfigFile, read_settings, settings_file
from broker.errors import StartupError

if TYPE_CHECKING:
    from broker.cli.checks.model import CheckResult, Installation

COLUMNS: Columns = {name: field(name) for name in ("status", "check", "detail")}


def doctor(as_json: JSONOption = False, file: ConfigFile = None) -> None:
    """Check settings, network, state, database, keys and webhooks of a running installation.

    Run it on the broker's machine, with the broker's settings, as its user or as root. It draws
    a code for each account at the provider and begins a login. Exits with 1 if a check failed.
    """
    # Imported here, because the help does not need them.
    from broker.cli.checks.model import Status
    from broker.infrastructure.observability import logging as logs

    logs.configure("critical")  # the checks report errors
    results = asyncio.run(examine(file))
    if as_json:
        print_json([result._asdict() for result in results])
    else:
        print_report(results)
    raise typer.Exit(any(result.status is Status.FAILED for result in results))


def print_report(results: list[CheckResult]) -> None:
    """Print a line for each check, then what to do."""
    print_list([result._asdict() for result in results], COLUMNS, as_json=False)
    fixes = [[result.check, result.fix] for result in results if result.fix]
    if fixes:
        print("\nWhat to do:")
        print_columns(fixes)


async def examine(file: Path | None) -> list[CheckResult]:
    """Run all checks in their order."""
    from broker.cli.checks.model import run_check
    from broker.cli.checks.table import CHECKS

    results = []
    async with AsyncExitStack() as stack:
        installation = await read_installation(file, stack)
        for check in CHECKS:
            result = await run_check(check, installation)
            installation.results[check.name] = result.status
            results.append(result)
    return results


async def read_installation(file: Path | None, stack: AsyncExitStack) -> Installation:
    """Read the settings. If they have mistakes, the installation has no groups of settings."""
    from broker.cli.checks.model import Installation
    from broker.cli.openers import check_backends
    from broker.infrastructure.settings import Settings
    from broker.settings import find_values

    found = find_values(settings_file(file))
    try:
        settings = read_settings(file)
        mistakes = await check_backends(settings)
    except StartupError as error:
        settings, mistakes = Settings([]), str(error).splitlines()
    return Installation(found, mistakes, settings, stack)
