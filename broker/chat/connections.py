"""The chat connections of this instance, by socket and by person."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from broker.chat.errors import TooManyConnections
from broker.chat.metrics import CONNECTIONS
from broker.chat.model import Author, ChatSession, Person

CONNECTIONS_MAX = 10
"""Connections of one person at this instance."""

RETRY_AFTER = 10
"""`retry_after` in seconds of a refused connection or room: another one has to end first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionKey:
    """The place of a chat session in the store. See `ChatSessionStore`."""

    shard: str
    secret_hash: bytes = field(repr=False)


@dataclass(slots=True, kw_only=True, eq=False)
class Connection:
    """One socket in `/chat`.

    person: `app` is the key of the app, and `session.app` its id.
    resume: the secret of the session; it is sent once and then removed.
    pairs: the other person of each point-to-point room that was resolved.
    """

    person: Person
    author: Author
    session: ChatSession
    session_key: SessionKey
    resume: str = field(repr=False)
    sid: str = ""
    joined_at: float = 0.0
    is_open: bool = False
    rooms: dict[str, frozenset[str]] = field(default_factory=dict)
    pairs: dict[str, str] = field(default_factory=dict)

    @property
    def app(self) -> str:
        """The app's id, as metrics have it."""
        return self.session.app


class Connections:
    """All open connections."""

    def __init__(self) -> None:
        self._by_sid: dict[str, Connection] = {}
        self._by_person: dict[Person, dict[str, Connection]] = {}

    def __len__(self) -> int:
        return len(self._by_sid)

    def add(self, sid: str, connection: Connection) -> None:
        """Register a connection. Raises TooManyConnections if its person has enough."""
        if len(self._by_person.get(connection.person, ())) >= CONNECTIONS_MAX:
            raise TooManyConnections(RETRY_AFTER)
        connection.sid = sid
        connection.is_open = True
        self._by_sid[sid] = connection
        self._by_person.setdefault(connection.person, {})[sid] = connection
        CONNECTIONS.labels(connection.app).inc()

    def remove(self, sid: str) -> Connection | None:
        connection = self._by_sid.pop(sid, None)
        if connection is None:
            return None
        connection.is_open = False
        of_person = self._by_person[connection.person]
        del of_person[sid]
        if not of_person:
            del self._by_person[connection.person]
        CONNECTIONS.labels(connection.app).dec()
        return connection

    def of(self, person: Person) -> Collection[Connection]:
        return self._by_person.get(person, {}).values()

    def all(self) -> list[Connection]:
        return list(self._by_sid.values())

    def people(self) -> list[Person]:
        return list(self._by_person)
