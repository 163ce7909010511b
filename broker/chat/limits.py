"""Rate limits of chat. Counters are local to this process."""

from __future__ import annotations

from broker.chat.model import Person
from broker.errors import RateLimited
from broker.infrastructure.rate_limit import RateLimit

SAY_WINDOW = 4.0
"""Seconds over which messages are counted: 5/s allow 20 at once."""

SAY_BYTES = 1_024
"""Bytes of a message that count as one."""

TYPING_INTERVAL = 2.0
"""Seconds between two `typing` of a connection in a room."""


REQUESTS_MAX, REQUESTS_WINDOW = 300, 30.0
"""Requests of one person other than `say`, over all connections, and the window in seconds. It is
a client's joins after a reconnect with 50 rooms in each of 6 tabs."""


class ChatLimits:
    """says_per_second: messages of one person, on average over `SAY_WINDOW`."""

    def __init__(self, says_per_second: int) -> None:
        self._says_max = round(says_per_second * SAY_WINDOW)
        self._says = RateLimit(self._says_max, SAY_WINDOW)
        self._typing = RateLimit(1, TYPING_INTERVAL)
        self._requests = RateLimit(REQUESTS_MAX, REQUESTS_WINDOW)

    def count_say(self, person: Person, size: int) -> None:
        """Count a message of `size` bytes. Raises RateLimited over the limit.

        A large message counts once for each `SAY_BYTES`: it is sent to every member, and the
        transport closes a connection that cannot keep up.
        """
        cost = min(self._says_max, 1 + size // SAY_BYTES)
        if not all([self._says.hit(person) for _ in range(cost)]):
            raise RateLimited(self._says.retry_after(person))

    def count_request(self, person: Person) -> None:
        """Count a request other than `say`. Raises RateLimited over the limit.

        A join reads a page of the room, and a person may have several connections.
        """
        if not self._requests.hit(person):
            raise RateLimited(self._requests.retry_after(person))

    def may_type(self, sid: str, room: str) -> bool:
        return self._typing.hit((sid, room))
