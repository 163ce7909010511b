"""Rate limits of chat. Counters are local to this process."""

from __future__ import annotations

from broker.chat.model import Person
from broker.errors import RateLimited
from broker.infrastructure.rate_limit import RateLimit

SAY_WINDOW = 4.0
"""Seconds over which messages are counted: 5/s allow 20 at once."""

TYPING_INTERVAL = 2.0
"""Seconds between two `typing` of a connection in a room."""


class ChatLimits:
    """says_per_second: messages of one person, on average over `SAY_WINDOW`."""

    def __init__(self, says_per_second: int) -> None:
        self._says = RateLimit(round(says_per_second * SAY_WINDOW), SAY_WINDOW)
        self._typing = RateLimit(1, TYPING_INTERVAL)

    def count_say(self, person: Person) -> None:
        """Count a message. Raises RateLimited over the limit."""
        if not self._says.hit(person):
            raise RateLimited(self._says.retry_after(person))

    def may_type(self, sid: str, room: str) -> bool:
        return self._typing.hit((sid, room))
