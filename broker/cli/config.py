"""`scan-login config`: check and show the settings and their sources."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from broker.cli.output import Columns, JSONOption, field, print_json, print_list
from broker.cli.support import ConfigFile, read_settings, settings_file, usage_error
from broker.errors import StartupError
from broker.infrastructure.settings import Settings, describe_value
from broker.infrastructure.settings_sources import (
    DEFAULT,
    PREFIX,
    FoundValues,
    Source,
    unknown_sentence,
    variable,
)
from broker.settings import FIELDS, find_values

command = typer.Typer(no_args_is_help=True)


@command.command()
def check(file: ConfigFile = None, as_json: JSONOption = False) -> None:
    """Check all settings and report every mistake.

    Opens no connection. Exits with 1 if there is a mistake.
    """
    found = find_values(settings_file(file))
    mistakes = [*found.unknown, *_mistakes(file, found)]
    warnings = [*found.warnings, *_warnings(found)]
    if as_json:
        outcome = {"valid": not mistakes, "mistakes": mistakes, "warnings": warnings}
        print_json({**outcome, "sources": _sources(found)})
        raise typer.Exit(bool(mistakes))
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if mistakes:
        sys.exit("\n".join(mistakes))
    print("the settings are valid")
    for name, source in found.sources.items():
        print(f"{variable(name)}: from {source}")
    print("all others: default" if found.sources else "all values: default")


COLUMNS: Columns = {
    "name": field("name"),
    "value": lambda setting: _text(setting["value"]),
    "source": field("source"),
}


@command.command()
def show(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Names of settings. Default: all.", show_default=False),
    ] = None,
    changed: Annotated[
        bool, typer.Option("--changed", help="Settings whose source is not the default only.")
    ] = False,
    file: ConfigFile = None,
    as_json: JSONOption = False,
) -> None:
    """Print every setting, its value and its source. Passwords are hidden."""
    settings, found = read_settings(file), find_values(settings_file(file))
    wanted = {_setting(name) for name in names or FIELDS}
    shown = {
        name: described
        for name, described in _described(settings, found).items()
        if name in wanted and (name in found.sources or not changed)
    }
    if as_json:
        print_json(shown)
        return
    rows = [
        {"name": name, **described, "source": str(found.sources.get(name, DEFAULT))}
        for name, described in shown.items()
    ]
    print_list(rows, COLUMNS, as_json=False, empty_note="all values: default")


def _setting(word: str) -> str:
    """Return the name of a setting that is given as such or as its variable."""
    name = word.lower().removeprefix(PREFIX.lower())
    if name not in FIELDS:
        usage_error(unknown_sentence(word, FIELDS))
    return name


def _mistakes(file: Path | None, found: FoundValues) -> list[str]:
    """Return all mistakes, each with the source of the wrong value."""
    from broker.cli.openers import check_backends, check_keys

    try:
        settings = read_settings(file)
        lines = [*asyncio.run(check_backends(settings)), *check_keys(settings)]
    except StartupError as error:
        lines = str(error).splitlines()
    sources = {variable(name): source for name, source in found.sources.items()}
    return [_with_source(line, sources) for line in lines]


def _with_source(line: str, sources: Mapping[str, Source]) -> str:
    source = sources.get(line.partition(":")[0])
    return f"{line} (from {source})" if source else line


def _warnings(found: FoundValues) -> list[str]:
    warnings = []
    if str(found.values.get("port")) == "0" and "public_url" not in found.values:
        warnings.append(
            f"{PREFIX}PORT: 0 selects another port at each start; set {PREFIX}PUBLIC_URL"
        )
    if found.values.get("policy", "off") != "off":
        warnings.append(
            f"{PREFIX}POLICY: a phone whose mini program cannot show a match is refused when it is "
            "challenged, and while the webhook is down; release the new mini program first"
        )
    return warnings


def _sources(found: FoundValues) -> dict[str, dict[str, str]]:
    return {name: source._asdict() for name, source in found.sources.items()}


def _described(settings: Settings, found: FoundValues) -> dict[str, dict[str, object]]:
    return {
        name: {
            "value": describe_value(value),
            "source": found.sources.get(name, DEFAULT)._asdict(),
        }
        for name, value in settings.values().items()
    }


def _text(value: object) -> object:
    """Return a value as a settings file has it."""
    return str(value).lower() if isinstance(value, bool) else value
