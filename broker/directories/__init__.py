"""Who an identity is here, or that it is unknown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from broker.directories.open import OpenDirectory
from broker.login import Identity


class Directory(Protocol):
    async def find(self, identity: Identity) -> str:
        """The subject, the token's `sub`, that `identity` is here: always the same one.

        Raises UnregisteredUser for somebody unknown, Unavailable when it cannot be told.
        """


DIRECTORIES: Mapping[str, Callable[[], Directory]] = {"open": OpenDirectory}
