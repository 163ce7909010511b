"""Imports the module of a subcommand when the subcommand runs.

The help of all commands and the completion of their names need none of these modules, so they
start without the broker's libraries.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group


class Subcommand(NamedTuple):
    """A subcommand, or a group of them.

    module, name: of the function, or of the Typer object.
    """

    module: str
    name: str
    help: str

    def load(self) -> Any:
        """Import the module, and return the subcommand as Typer runs it."""
        found = getattr(import_module(self.module), self.name)
        if isinstance(found, typer.Typer):
            loaded: Any = get_group(found)
        else:
            holder = typer.Typer(add_completion=False)
            holder.command()(found)
            loaded = get_command(holder)
        loaded.help = self.help
        return loaded


def lazy_group(subcommands: Mapping[str, Subcommand]) -> type[TyperGroup]:
    """Return the class of a group with these subcommands.

    Arguments are Any because typer has no public types for them.
    """

    class LazyGroup(TyperGroup):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            for name, subcommand in subcommands.items():
                self.add_command(TyperCommand(name, help=subcommand.help))

        def resolve_command(self, ctx: Any, args: list[str]) -> Any:
            name, _, rest = super().resolve_command(ctx, args)
            return name, subcommands[name].load() if name else None, rest

    return LazyGroup
