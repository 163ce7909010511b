"""`scan-login provider`: check that codes can be drawn."""

from __future__ import annotations

from typing import Annotated

import typer

from broker.apps.model import DEFAULT_APP
from broker.cli.output import JSONOption, print_json
from broker.cli.support import ConfigFile, read_settings, with_records

command = typer.Typer(no_args_is_help=True)


@command.command()
def check(
    file: ConfigFile = None,
    app: Annotated[str, typer.Option(help="App whose provider is checked.")] = DEFAULT_APP,
    as_json: JSONOption = False,
) -> None:
    """Draw one code, and print the reason if that fails."""
    from broker.cli.openers import draw_test_code

    settings = read_settings(file)
    name = with_records(
        settings,
        lambda records: draw_test_code(settings, records, app),
        log_level="critical",  # the command prints the error itself
    )
    if as_json:
        print_json({"provider": name, "app": app})
        return
    print(f"the provider {name} draws codes")
