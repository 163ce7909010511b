"""The users in the records: whoever an operator has written down, or has invited."""

from __future__ import annotations

from typing import Protocol

from broker.errors import UnregisteredUser
from broker.login import Identity


class People(Protocol):
    """What is asked of the records.  Both raise UserBlocked, or Unavailable."""

    async def find(self, identity: Identity) -> str | None:
        """The id of the user whose `identity` is; None where it is nobody's."""

    async def join(self, identity: Identity) -> str | None:
        """Make `identity` the user's who is the same person, by `unionid`; None without one."""


class SqlDirectory:
    def __init__(self, people: People) -> None:
        self._people = people

    async def open(self) -> None:
        """Nothing: the records are open."""

    async def close(self) -> None:
        """Nothing."""

    async def find(self, identity: Identity) -> str:
        subject = await self._people.find(identity)
        if subject is None and identity.unionid is not None:
            subject = await self._people.join(identity)
        if subject is None:
            raise UnregisteredUser
        return subject
