"""The acts of moderators: mute and kick."""

from __future__ import annotations

from broker.chat.connections import Connection
from broker.chat.conversations import Target
from broker.chat.errors import ChatDenied, NotAMember
from broker.chat.model import CHANGES_NOTICE, Restriction, RestrictionKind
from broker.chat.notices import Notifier
from broker.chat.ports import RestrictionStore
from broker.chat.rules import MODERATE
from broker.infrastructure.clock import Clock


class Moderation:
    """Restricts people in a room, on behalf of its moderators."""

    def __init__(self, *, store: RestrictionStore, notifier: Notifier, clock: Clock) -> None:
        self._store = store
        self._notifier = notifier
        self._clock = clock

    async def restrict(
        self,
        connection: Connection,
        target: Target,
        subject: str,
        kind: RestrictionKind,
        seconds: int,
    ) -> None:
        """Restrict a person, for all their connections. seconds: 0 ends the restriction.

        Raises NotAMember, or ChatDenied unless the person moderates the room.
        """
        may = connection.rooms.get(target.key.name)
        if may is None:
            raise NotAMember
        if MODERATE not in may:
            raise ChatDenied("only a moderator may do this")
        now = self._clock()
        restriction = Restriction(kind, now + seconds)
        pending = await self._store.put(target.key, subject, restriction, now=now)
        await self._notifier.notify(pending, CHANGES_NOTICE)
