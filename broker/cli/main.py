"""The `scan-login` command."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from broker import __version__
from broker.cli import apps, audit, config, demo, keys, pool, provider, records, serve, users
from broker.errors import StartupError
from broker.infrastructure.observability import logging as logs

command = typer.Typer(
    no_args_is_help=True,
    help="A broker for login by scanning a code with a phone.",
    context_settings={"help_option_names": ["-h", "--help"]},  # subcommands inherit it
)

command.command()(serve.serve)

command.command()(demo.demo)

SUBCOMMANDS = {
    "config": config.command,
    "key": keys.command,
    "app": apps.command,
    "pool": pool.command,
    "user": users.command,
    "records": records.command,
    "provider": provider.command,
    "audit": audit.command,
}

for name, group in SUBCOMMANDS.items():
    command.add_typer(group, name=name)


@command.callback(invoke_without_command=True)
def top(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def main() -> None:
    logs.configure("warning")
    logs.capture_hooks()
    try:
        command(prog_name="scan-login")
    except StartupError as error:
        logs.flush()  # earlier lines come first
        sys.exit(str(error))
