"""Options that several commands share."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from inspect import Parameter
from typing import Any

Command = Callable[..., None]


def takes_options(options: Mapping[str, Any]) -> Callable[[Command], Command]:
    """Return a decorator that gives a command all `options` after its first argument.

    They are the `**options` of the function. None as a value means that an option is not given.

    options: annotations by parameter name, in the order of the help.
    """

    def decorate(command: Command) -> Command:
        signature = inspect.signature(command, eval_str=True)
        argument, *others = (
            one for one in signature.parameters.values() if one.kind is not Parameter.VAR_KEYWORD
        )
        given = [
            Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
            for name, annotation in options.items()
        ]
        command.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[argument, *given, *others]
        )
        return command

    return decorate
