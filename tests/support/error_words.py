"""The error words of the protocol."""

from __future__ import annotations

from collections.abc import Iterator

from broker.errors import BrokerError


def words(error: type[BrokerError] = BrokerError) -> Iterator[str]:
    for kind in error.__subclasses__():
        if "error" in vars(kind):
            yield kind.error
        yield from words(kind)


WORDS = frozenset(words())
