"""The error words of the protocol and their HTTP statuses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import broker.app  # noqa: F401 - imports every module that defines an error class
from broker.errors import BrokerError


def error_classes(error: type[BrokerError] = BrokerError) -> Iterator[type[BrokerError]]:
    """The classes that define a word."""
    for kind in error.__subclasses__():
        if "error" in vars(kind):
            yield kind
        yield from error_classes(kind)


STATUSES: Mapping[str, int] = {kind.error: kind.status for kind in reversed([*error_classes()])}
"""The status of a word's first class; a later class may have another."""

WORDS = frozenset(STATUSES)
