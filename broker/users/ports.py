"""Where registered users are found."""

from __future__ import annotations

from typing import Protocol

from broker.identity.model import Identity


class UserLookup(Protocol):
    """What is asked of the records.  Both raise UserBlocked, or Unavailable."""

    async def find(self, identity: Identity) -> str | None:
        """The id of the user whose `identity` is; None where it is nobody's."""

    async def link_by_unionid(self, identity: Identity) -> str | None:
        """Make `identity` the user's who is the same person, by `unionid`; None without one."""
