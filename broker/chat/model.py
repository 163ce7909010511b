"""Rooms, their entries and members, and the people who chat."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from broker.infrastructure.coordination import Notice
from broker.tokens.model import AccessGrant

PAIR_MARK, PERSON_MARK = "@", "~"
"""First characters of the rooms of two people and of one person. No other room has them."""


class RoomKey(NamedTuple):
    """A room of an app.

    app: `App.key`, so that a new app does not get the rooms of a former one with its id.
    name: `[A-Za-z0-9._:-]{1,64}`, `pair_room` or `person_room`.
    """

    app: str
    name: str

    @property
    def is_pair(self) -> bool:
        """Whether this is the room of a point-to-point conversation."""
        return self.name.startswith(PAIR_MARK)

    @property
    def is_person(self) -> bool:
        """Whether this is `Person.room`."""
        return self.name.startswith(PERSON_MARK)


class Person(NamedTuple):
    """A subject in an app. app: `App.key`."""

    app: str
    subject: str

    @property
    def room(self) -> RoomKey:
        """The room whose members are the connections of this person.

        It has no entries. It finds the instances that receive the person's point-to-point
        messages.
        """
        return RoomKey(self.app, person_room(self.subject))


def pair_room(one: str, other: str) -> str:
    """Return the name of the point-to-point room of two subjects, in any order."""
    return PAIR_MARK + _digest(sorted((one, other)))


def person_room(subject: str) -> str:
    return PERSON_MARK + _digest([subject])


def _digest(subjects: Iterable[str]) -> str:
    """Return 43 URL-safe characters. Each subject is preceded by its length in bytes."""
    encoded = [subject.encode() for subject in subjects]
    text = b"".join(b"%d:%b" % (len(one), one) for one in encoded)
    return base64.urlsafe_b64encode(hashlib.sha256(text).digest()).rstrip(b"=").decode()


class Author(NamedTuple):
    """The author of a message.

    subject, name: set by the broker from the login. nickname: typed by the user, not verified.
    """

    subject: str
    name: str | None = None
    nickname: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessage:
    """A message that has no offset yet.

    id: chosen by the client; the sender's next message with it, within `MESSAGE_ID_TTL`, is a
        repetition.
    data: any JSON value; None for none.
    at: Unix time in seconds.
    """

    id: str
    sender: Author
    text: str | None
    data: object
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Message(NewMessage):
    """A message of a room. offset: 1, 2, 3… in the order of the room."""

    offset: int

    @property
    def position(self) -> int:
        return self.offset


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """The deletion of a message, as an entry of the room.

    entry: its own offset. offset: that of the deleted message.
    by: the subject that deleted it. at: Unix time in seconds.
    """

    entry: int
    offset: int
    by: str
    at: float

    @property
    def position(self) -> int:
        return self.entry


Entry = Message | Deletion


class Appended(NamedTuple):
    """The place of an entry, the same for a repetition.

    at: Unix time in seconds.
    pending: instances to which the caller has to send `room_notice`, because the store did not.
    """

    epoch: str
    offset: int
    at: float
    pending: tuple[str, ...] = ()


class RoomPage(NamedTuple):
    """Entries of a room, in order.

    epoch: changes when the entries of the room are lost; empty while the room has had none.
    head: offset of the last entry; 0 for none.
    floor: offset of the last entry that was dropped because of its age or of the number of
        entries; 0 for none. Entries above it are missing only if they were deleted.
    more: whether earlier entries of the range were left out.
    """

    epoch: str
    head: int
    floor: int
    entries: tuple[Entry, ...]
    more: bool


class Retention(NamedTuple):
    """The entries that a room keeps: the newest `entries`, none older than `seconds`."""

    entries: int
    seconds: float


class ChangeKind(StrEnum):
    ENTRIES = "entries"
    """The room has new entries of `epoch` up to `offset`."""

    CONVERSATION = "conversation"
    """The point-to-point room has new entries for the person `subject`, the first at `offset`."""

    RESTRICTION = "restriction"
    """The restrictions of the person `subject` in the room have changed."""


class Change(NamedTuple):
    """A change that an instance has not applied yet. `ChangeKind` describes the fields."""

    kind: ChangeKind
    room: RoomKey
    offset: int = 0
    subject: str = ""
    epoch: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A person in a room. joined_at: Unix time in seconds."""

    subject: str
    name: str | None = None
    nickname: str | None = None
    joined_at: float


class Presence(NamedTuple):
    """The members of a room after a change.

    online: people, each counted once.
    instances: those with members.
    joined, left: subjects that came online or went offline by this call, or whose heartbeats
        ended before it. Each change is in the result of one call, over all instances.
    was_listed: whether the calling instance had members before. If it had none, its entries of
        the room may be incomplete, because nothing was sent to it.
    """

    online: int
    instances: tuple[str, ...]
    joined: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    was_listed: bool = True


class MemberPage(NamedTuple):
    """members: online, the last to join first. online: people, each counted once."""

    members: tuple[Member, ...]
    online: int


class RestrictionKind(StrEnum):
    KICK = "kick"
    """The person may not be in the room."""

    MUTE = "mute"
    """The person may not send messages."""


class Restriction(NamedTuple):
    """until: Unix time in seconds."""

    kind: RestrictionKind
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatSession:
    """The person of a `resume` secret.

    app: the id of the app. incarnation: of that app.
    phone_session: id of the phone's session that it ends with; empty for none.
    openid: the user's id at the provider; None if the session is not from a phone.
    expires_at: Unix time in seconds; each use extends it.
    grant: of the access token, that it ends with; None for none.
    """

    app: str
    incarnation: str
    subject: str
    name: str | None
    phone_session: str
    openid: str | None
    expires_at: float
    grant: AccessGrant | None = None


class Conversation(NamedTuple):
    """A point-to-point room as one of its two people sees it.

    room: its name. subject, name: of the other person; None if the name is unknown.
    epoch, offset: of the last entry. at: Unix time of the last entry.
    seen: the highest offset that the person has seen.
    """

    room: str
    subject: str
    name: str | None
    epoch: str
    offset: int
    at: float
    seen: int = 0


ROOM_NEWS = "room-news"
"""Event of the notice that one room has new entries. Its id is `room_id`."""

ROOM_CHANGES = "room-changes"
"""Event of the notice that there are changes. Its id is empty."""


def room_id(room: RoomKey) -> str:
    """Return the room as the id of a notice. Neither an app key nor a name has a slash."""
    return f"{room.app}/{room.name}"


def parse_room_id(text: str) -> RoomKey:
    app, _, name = text.partition("/")
    return RoomKey(app, name)


def room_notice(room: RoomKey) -> Notice:
    return Notice(ROOM_NEWS, room_id(room))


CHANGES_NOTICE = Notice(ROOM_CHANGES, "")
