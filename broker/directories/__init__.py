"""Who an identity is here, or that it is unknown."""

from __future__ import annotations

from typing import Protocol

from broker.login import Identity

NAMES = ("open", "sql", "https", "http")
"""The directories that can be chosen; the last two by the URL of a site's webhook."""


class Directory(Protocol):
    async def open(self) -> None:
        """Get ready, and wait for nobody outside."""

    async def close(self) -> None: ...

    async def find(self, identity: Identity) -> str:
        """The subject, the token's `sub`, that `identity` is here: always the same one.

        Raises UnregisteredUser for somebody unknown, UserBlocked for one who is let in no
        more, Unavailable when it cannot be told.
        """
