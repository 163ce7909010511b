"""The `scan-login` command."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated

import typer

from broker import __version__
from broker.cli.lazy import Subcommand, lazy_group
from broker.errors import StartupError
from broker.infrastructure.observability.hooks import capture_hooks

SUBCOMMANDS: Mapping[str, Subcommand] = {
    "serve": Subcommand("broker.cli.serve", "serve", "Run the broker."),
    "demo": Subcommand(
        "broker.cli.demo",
        "demo",
        "Run broker, example site and phone page. No WeChat account is needed.",
    ),
    "init": Subcommand(
        "broker.cli.init", "init", "Write the files of a new installation. Asks for what it needs."
    ),
    "doctor": Subcommand(
        "broker.cli.doctor",
        "doctor",
        "Check an installation: network, state, database, keys, webhooks.",
    ),
    "config": Subcommand("broker.cli.config", "command", "Check and show the settings."),
    "key": Subcommand(
        "broker.cli.keys",
        "command",
        "Manage the keys that sign tokens and the keys that encrypt secrets.",
    ),
    "app": Subcommand(
        "broker.cli.apps",
        "command",
        "Manage apps: the sites and mini programs that log people in.",
    ),
    "pool": Subcommand("broker.cli.pool", "command", "Manage the codes that are drawn in advance."),
    "user": Subcommand("broker.cli.users", "command", "Manage users and their identities."),
    "records": Subcommand("broker.cli.records", "command", "Check and migrate the database."),
    "provider": Subcommand(
        "broker.cli.provider", "command", "Check the provider, which draws codes."
    ),
    "audit": Subcommand("broker.cli.audit", "command", "Search, export and verify the audit log."),
}
"""In the order of the help."""

command = typer.Typer(
    cls=lazy_group(SUBCOMMANDS),
    no_args_is_help=True,
    help="A broker for login by scanning a code with a phone.",
    context_settings={"help_option_names": ["-h", "--help"]},  # subcommands inherit it
)


@command.callback(invoke_without_command=True)
def top(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def main() -> None:
    capture_hooks()
    try:
        command(prog_name="scan-login")
    except StartupError as error:
        # Imported here, because it imports structlog, which the help does not need.
        from broker.infrastructure.observability import logging as logs

        logs.flush()  # earlier lines come first
        sys.exit(str(error))
