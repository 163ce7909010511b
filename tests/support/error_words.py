"""The error words of the protocol and their HTTP statuses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import broker.app  # noqa: F401 - imports every module that defines an error class
from broker.errors import BrokerError


def error_classes(error: type[BrokerError] = BrokerError) -> Iterator[type[BrokerError]]:
    """Return the classes that define an error word."""
    for kind in error.__subclasses__():
        if "error" in vars(kind):
            yield kind
        yield from error_classes(kind)


STATUSES: Mapping[str, int] = {kind.error: kind.status for kind in reversed([*error_classes()])}
"""The HTTP status of the first class of each word. Other classes may have another status."""

WORDS = frozenset(STATUSES)
