"""Prints the reference of docs/cli.md: every command with its arguments and options.

    python -m tools.cli_page

A test compares the page with this.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from broker.cli.main import SUBCOMMANDS

COMMON = frozenset({"--config", "--json", "--help"})
"""Options that the page describes once."""


def reference() -> str:
    """Return the sections of all commands as Markdown."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    for name, subcommand in SUBCOMMANDS.items():
        loaded = subcommand.load()
        yield f"## scan-login {name}\n\n{subcommand.help}\n"
        below = getattr(loaded, "commands", None)
        if below is None:
            yield from _options(loaded)
        for word, command in (below or {}).items():
            yield f"### scan-login {name} {word}\n\n{_help(command)}\n"
            yield from _options(command)


def _help(command: Any) -> str:
    """Return the help as one paragraph."""
    return " ".join(command.help.split())


def _options(command: Any) -> Iterator[str]:
    """Yield a table of the arguments and options that only some commands have."""
    shown = [one for one in command.params if not one.hidden and not COMMON.intersection(one.opts)]
    if any("--json" in one.opts for one in command.params):
        yield "Prints JSON with `--json`.\n"
    if shown:
        yield "| option | meaning |\n|---|---|"
        yield from (f"| {_names(one)} | {_text(one.help)} |" for one in shown)
        yield ""


def _names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{(parameter.metavar or parameter.name).strip('[]').upper()}`"
    return ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])


def _text(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    print(reference())
