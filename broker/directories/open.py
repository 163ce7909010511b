"""A directory that accepts every identity: the subject is the provider's id."""

from __future__ import annotations

from broker.identity.model import Identity, UserProfile
from broker.infrastructure.clock import Clock
from broker.infrastructure.settings import Settings
from broker.users.ports import UserLookup


class OpenDirectory:
    async def open(self) -> None:
        """Do nothing: there is no connection."""

    async def close(self) -> None:
        """Do nothing."""

    async def find(self, identity: Identity) -> UserProfile:
        # Two providers may use the same id for two users.
        return UserProfile(subject=f"{identity.provider}:{identity.id}")


def open_directory(settings: Settings, users: UserLookup, clock: Clock) -> OpenDirectory:
    return OpenDirectory()
