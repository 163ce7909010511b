"""A directory of the users in the records, who are added or invited by an operator."""

from __future__ import annotations

from broker.directories.shared import SharedDirectory
from broker.identity.errors import UnregisteredUser
from broker.identity.model import Identity, UserProfile
from broker.infrastructure.clock import Clock
from broker.infrastructure.settings import Settings
from broker.users.ports import UserLookup


class SqlDirectory:
    def __init__(self, users: UserLookup) -> None:
        self._users = users

    async def open(self) -> None:
        """Do nothing: the caller opens the records."""

    async def close(self) -> None:
        """Do nothing."""

    async def find(self, identity: Identity) -> UserProfile:
        profile = await self._users.find(identity)
        if profile is None and identity.unionid is not None:
            profile = await self._users.link_by_unionid(identity)
        if profile is None:
            raise UnregisteredUser
        return profile


def open_directory(settings: Settings, users: UserLookup, clock: Clock) -> SharedDirectory:
    # Refusals are not cached: a user who was just linked or unblocked may confirm at once.
    return SharedDirectory(SqlDirectory(users), refusal_ttl=0)
