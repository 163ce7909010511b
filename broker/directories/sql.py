"""The users in the records: whoever an operator has written down, or has invited."""

from __future__ import annotations

from broker.identity.errors import UnregisteredUser
from broker.identity.model import Identity
from broker.users.ports import UserLookup


class SqlDirectory:
    def __init__(self, people: UserLookup) -> None:
        self._people = people

    async def open(self) -> None:
        """Nothing: the records are open."""

    async def close(self) -> None:
        """Nothing."""

    async def find(self, identity: Identity) -> str:
        subject = await self._people.find(identity)
        if subject is None and identity.unionid is not None:
            subject = await self._people.link_by_unionid(identity)
        if subject is None:
            raise UnregisteredUser
        return subject
