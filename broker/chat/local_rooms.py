"""The rooms of this instance's connections, and how far each one's entries were sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from broker.chat.connections import RETRY_AFTER, Connection
from broker.chat.errors import TooManyRooms
from broker.chat.metrics import ROOMS
from broker.chat.model import Entry, Member, Person, RoomKey

ROOMS_MAX = 10_000
"""Rooms of one app at this instance, without point-to-point rooms."""

LANES_MAX = 128
"""Point-to-point rooms that send to one person. The next one drops the one that has been unused
the longest; a later message begins it again."""

ALL = ""
"""The lane of all members of a room. No subject is empty."""


class LocalRoom:
    """A room with connections at this instance.

    app: the app's id.
    joined: the connections that have joined, by sid.
    starts: the offset after which a connection receives entries, while that is above its lane's.
    lanes: offset of the last entry that was sent, by recipients. An ordinary room has one lane,
        `ALL`. A point-to-point room has one for each of its people with new messages: all
        connections of the person receive them.
    epoch: of the entries; empty while the room has had none.
    online: people in the room at all instances, as last read.
    online_sent: the number in the last `chat-online`.
    joining: connections whose `join` is in progress. recent: the entries that were sent meanwhile.
    is_stale: whether there may be entries to read. is_reading: whether a task reads them.
    """

    __slots__ = (
        "app",
        "epoch",
        "is_reading",
        "is_stale",
        "joined",
        "joining",
        "key",
        "lanes",
        "online",
        "online_sent",
        "recent",
        "starts",
    )

    def __init__(self, key: RoomKey, app: str) -> None:
        self.key = key
        self.app = app
        self.joined: dict[str, Connection] = {}
        self.starts: dict[str, int] = {}
        self.lanes: dict[str, int] = {}
        self.epoch = ""
        self.online = 0
        self.online_sent = 0
        self.joining = 0
        self.recent: list[Entry] = []
        self.is_stale = False
        self.is_reading = False

    def _close_unused_lane(self) -> None:
        if not self.joined and not self.joining:
            self.lanes.pop(ALL, None)

    def lane_of(self, connection: Connection) -> str:
        return connection.person.subject if self.key.is_pair else ALL

    def add(self, connection: Connection, head: int) -> None:
        """Let a connection receive the entries after `head`."""
        lane = self.lane_of(connection)
        if lane == ALL and lane not in self.lanes:
            self.lanes[lane] = head
        self.joined[connection.sid] = connection
        self.starts.pop(connection.sid, None)
        if head > self.lanes.get(lane, -1):
            self.starts[connection.sid] = head

    def remove(self, sid: str) -> None:
        self.joined.pop(sid, None)
        self.starts.pop(sid, None)
        self._close_unused_lane()

    @contextmanager
    def being_joined(self) -> Iterator[None]:
        """Keep the room, and the entries that are sent, while a connection joins."""
        self.joining += 1
        try:
            yield
        finally:
            self.joining -= 1
            if not self.joining:
                self.recent = []
                self._close_unused_lane()

    def clear(self) -> list[str]:
        """Remove all connections, and return their sids."""
        sids = list(self.joined)
        for sid in sids:
            self.joined[sid].rooms.pop(self.key.name, None)
        self.joined, self.starts = {}, {}
        self.lanes.pop(ALL, None)
        return sids

    def advance(self, entries: Sequence[Entry], head: int) -> None:
        """Note that the entries up to `head` were sent to all lanes."""
        if self.joining:
            self.recent += entries
        for lane in self.lanes:
            self.lanes[lane] = max(head, self.lanes[lane])
        if self.starts:
            self.starts = {
                sid: start
                for sid, start in self.starts.items()
                if start > self.lanes.get(self.lane_of(self.joined[sid]), -1)
            }

    def members(self) -> Iterable[Member]:
        """Return the people who have joined here, each once."""
        people = {one.person.subject: one for one in self.joined.values()}
        return [member_of(one) for one in people.values()]

    def has(self, subject: str) -> bool:
        return any(one.person.subject == subject for one in self.joined.values())

    def sids_except(self, subject: str) -> list[str]:
        """Return the sockets that have joined, without those of one person."""
        return [sid for sid, one in self.joined.items() if one.person.subject != subject]


def member_of(connection: Connection) -> Member:
    author = connection.author
    return Member(
        subject=author.subject,
        name=author.name,
        nickname=author.nickname,
        joined_at=connection.joined_at,
    )


class LocalRooms:
    """The rooms of this instance."""

    def __init__(self) -> None:
        self._rooms: dict[RoomKey, LocalRoom] = {}
        self._counts: Counter[str] = Counter()
        self._lanes: dict[Person, dict[RoomKey, None]] = {}

    def __len__(self) -> int:
        return len(self._rooms)

    def find(self, key: RoomKey) -> LocalRoom | None:
        return self._rooms.get(key)

    def open(self, key: RoomKey, app: str) -> LocalRoom:
        """Return the room; a new one if there is none. Raises TooManyRooms."""
        room = self._rooms.get(key)
        if room is None:
            if not key.is_pair and self._counts[app] >= ROOMS_MAX:
                raise TooManyRooms(RETRY_AFTER)
            room = self._rooms[key] = LocalRoom(key, app)
            self._counts[app] += not key.is_pair
            ROOMS.labels(app).inc()
        return room

    def open_lane(self, person: Person, key: RoomKey, app: str, first: int) -> LocalRoom:
        """Return a point-to-point room that sends the entries from `first` on to a person.

        A room that sends to the person already continues from its last entry.
        """
        room = self.open(key, app)
        room.lanes.setdefault(person.subject, first - 1)
        lanes = self._lanes.setdefault(person, {})
        lanes.pop(key, None)
        lanes[key] = None
        if len(lanes) > LANES_MAX:
            self._close_lane(person, next(iter(lanes)))
        return room

    def close_lanes(self, person: Person) -> None:
        """Send nothing more to a person, who has no connection left."""
        for key in list(self._lanes.get(person, ())):
            self._close_lane(person, key)

    def _close_lane(self, person: Person, key: RoomKey) -> None:
        del self._lanes[person][key]
        if not self._lanes[person]:
            del self._lanes[person]
        room = self._rooms.get(key)
        if room is not None:
            room.lanes.pop(person.subject, None)
            self.discard_unused(room)

    def discard_unused(self, room: LocalRoom) -> None:
        """Remove a room without connections."""
        if room.joined or room.joining or room.lanes:
            return
        if self._rooms.get(room.key) is room:
            del self._rooms[room.key]
            self._counts[room.app] -= not room.key.is_pair
            ROOMS.labels(room.app).dec()

    def all(self) -> list[LocalRoom]:
        return list(self._rooms.values())
