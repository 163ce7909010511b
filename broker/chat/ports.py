"""Storage ports of chat. Every method raises Unavailable.

Times are Unix time in seconds, by the clock of the state. All data of a room is in one shard, so
that one round trip can change it; so is all data of a person, with `Person.room`.

**Notices.** `append`, `delete`, `touch` and `put` of a restriction store a change, mark it for
each instance that it concerns, and send that instance a notice, in one round trip where state
and bus are one server. The instances that the store did not notify are in the result; the caller
notifies them through the bus. A notice may be lost. The mark remains until the instance takes it
with `changes`, or for at least `MARK_TTL`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from broker.apps.model import App
from broker.chat.model import (
    Appended,
    Change,
    ChatSession,
    Conversation,
    Member,
    MemberPage,
    NewMessage,
    Person,
    Presence,
    Restriction,
    Retention,
    RoomKey,
    RoomPage,
)
from broker.tokens.issuer import VerifiedAccessToken
from broker.tokens.model import AccessGrant

MESSAGE_ID_TTL = 600.0
"""Seconds in which a message with the same id is a repetition."""

MEMBER_TTL = 30.0
"""Seconds for which a member is online after `refresh`."""

MARK_TTL = 60.0
"""Seconds for which the changes of an instance are kept after the last one, as the instance may be
dead. It is longer than `MEMBER_TTL`: an instance that was away for longer has lost its members,
and learns that from `Presence.was_listed`."""

MEMBERS_MAX = 100
"""Members in a page."""

CONVERSATIONS_MAX = 100
"""Conversations of a person. The next one drops the one that has been unused the longest."""

CHAT_SESSIONS_MAX = 20
"""Chat sessions of a person. The next one drops the one that would end first."""


class RoomStore(Protocol):
    """The entries of rooms.

    Offsets of a room are 1, 2, 3… in the order in which entries are stored. They begin again,
    with a new epoch, if the entries are lost. A room that is empty because of the age of its
    entries keeps its epoch and its offsets for another `Retention.seconds`. The entries of
    `person_room` are never used.

    Entries beyond `retention` are never returned. `append` and `delete` drop them; `trim` drops
    those of unused rooms.
    """

    async def append(
        self, room: RoomKey, message: NewMessage, *, retention: Retention
    ) -> Appended | Restriction:
        """Store a message at the end of the room. Notifies the room's instances (`room_notice`).

        A message of a sender who is kicked or muted is not stored; the restriction that ends
        last is returned. A message whose sender has sent its id within `MESSAGE_ID_TTL` is not
        stored again, also if it has another text: the place of the first one is returned, and
        no instance is notified. After Unavailable the message may be stored or not; the same id
        gives the answer.
        """

    async def delete(
        self, room: RoomKey, offset: int, *, by: str, at: float, retention: Retention
    ) -> Appended | None:
        """Remove a message and store a `Deletion` at the end of the room.

        Notifies the room's instances (`room_notice`). Returns None, and changes nothing, if the
        room has no message at `offset`. Of simultaneous calls one succeeds. `read` never returns
        the message again. Its id still counts for repetitions.
        """

    async def read(
        self,
        room: RoomKey,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int,
        now: float,
        retention: Retention,
    ) -> RoomPage:
        """Return the newest `limit` entries whose offset is above `after` and below `before`."""

    async def changes(self, instance: str) -> Sequence[Change]:
        """Take the changes that are marked for an instance, each room, kind, subject and epoch
        once.

        A change that is marked during the call is in its result or in that of the next call.
        After Unavailable, the next call returns the changes again.
        `ENTRIES` have the highest new offset, `CONVERSATION`s the lowest.
        """

    async def trim(self, *, now: float, retention: Retention) -> int:
        """Drop entries older than `retention`, in all rooms, and return how many.

        At most some thousands; 0 means that none is left.
        """


class MemberStore(Protocol):
    """The members of rooms, and the instances that have them.

    A person is a member from `refresh` until `MEMBER_TTL` after the last `refresh`, or until
    `leave`. A person may be a member at several instances, and is online while one is left.
    """

    async def refresh(
        self, instance: str, rooms: Mapping[RoomKey, Collection[Member]], *, now: float
    ) -> Mapping[RoomKey, Presence]:
        """Store the members of rooms at this instance, or extend their time.

        Members that are left out keep their time. It costs one command for each room at most,
        all sent at once. `joined_at` is kept from the first call for a person who is online; the
        names are those of the last call.
        """

    async def leave(
        self, instance: str, room: RoomKey, subjects: Collection[str], *, now: float
    ) -> Presence:
        """Remove members of this instance. Those that are members elsewhere stay online."""

    async def page(self, room: RoomKey, *, now: float) -> MemberPage:
        """Return the `MEMBERS_MAX` members who joined last, and how many are online."""

    async def instances(self, room: RoomKey, *, now: float) -> Collection[str]:
        """Return the instances with members in the room."""


class RestrictionStore(Protocol):
    """Kicks and mutes, at most one of each kind for a person in a room."""

    async def put(
        self, room: RoomKey, subject: str, restriction: Restriction, *, now: float
    ) -> Collection[str]:
        """Store a restriction instead of the one of its kind; one that has ended removes it.

        Marks a `RESTRICTION` change for the room's instances and notifies them
        (`CHANGES_NOTICE`). Returns the instances that the caller has to notify.
        """

    async def find(self, room: RoomKey, subject: str, *, now: float) -> Sequence[Restriction]:
        """Return the restrictions that have not ended, of which there may be two."""


class ChatSessionStore(Protocol):
    """Chat sessions, by the SHA-256 of the `resume` secret.

    shard: the first character of the secret, which is the shard of the person
    (`shard_of(Person.room.name)`).
    """

    async def put(self, shard: str, secret_hash: bytes, session: ChatSession) -> None:
        """Store a session until it expires.

        If its person has `CHAT_SESSIONS_MAX`, those that would end first are dropped.
        """

    async def find(self, shard: str, secret_hash: bytes) -> ChatSession | None:
        """Return the session, or None if it has ended or never existed."""

    async def extend(self, shard: str, secret_hash: bytes, expires_at: float) -> bool:
        """Set a later end. Returns False if the session has ended; it remains ended then."""

    async def end(self, shard: str, secret_hash: bytes) -> None:
        """End a session. A simultaneous `extend` does not restore it."""


class ConversationStore(Protocol):
    """The point-to-point rooms of people."""

    async def touch(
        self, person: Person, conversation: Conversation, *, first: int, retention: Retention
    ) -> Collection[str]:
        """Store the conversation as the newest one of `person`.

        It is dropped `retention.seconds` after `conversation.at`. `seen` never decreases, unless
        the epoch changes. `offset` and `at` never decrease within an epoch. A name of None
        keeps the stored name.

        first: the offset of the new entry. Marks a `CONVERSATION` change for each instance in
        `person.room` and notifies it (`CHANGES_NOTICE`). Returns the instances that the
        caller has to notify.
        """

    async def of(self, person: Person, *, now: float) -> Sequence[Conversation]:
        """Return the conversations, the newest first."""

    async def see(self, person: Person, room: str, offset: int) -> None:
        """Raise `seen` to `offset`, but not above the conversation's offset.

        Does nothing for an unknown conversation.
        """


class LoginGrants(Protocol):
    """The grants of access tokens, which the OpenID Connect provider stores."""

    async def find(self, token: VerifiedAccessToken, app: App) -> AccessGrant:
        """Return the grant.

        Raises InvalidToken if the grant has ended or if its user may not log in.
        """

    async def is_active(self, grant: AccessGrant, subject: str) -> bool:
        """Return whether neither the grant nor its sign-in session was ended."""


class ChatStores(NamedTuple):
    """The stores of chat in one state backend."""

    rooms: RoomStore
    members: MemberStore
    restrictions: RestrictionStore
    sessions: ChatSessionStore
    conversations: ConversationStore
