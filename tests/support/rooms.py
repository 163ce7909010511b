"""Rooms of chat for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from broker.chat.model import (
    Appended,
    Author,
    ChatSession,
    Conversation,
    Entry,
    Member,
    NewMessage,
    Person,
    Retention,
    RoomKey,
    pair_room,
)
from broker.state import StateBackend
from tests.support.builders import Clock

ROOM = RoomKey("shop~first", "lobby")
ALICE = Person("shop~first", "pretend:alice")
KEEP = Retention(entries=1_000, seconds=604_800.0)
FEW = Retention(entries=5, seconds=3_600.0)


def a_message(clock: Clock, message_id: str, subject: str = "alice", **changes: Any) -> NewMessage:
    fields = {"text": f"text of {message_id}", "data": None, "at": clock(), **changes}
    author = Author(subject, name="Alice", nickname="爱丽丝")
    return NewMessage(id=message_id, sender=author, **fields)


def a_member(clock: Clock, subject: str, **changes: Any) -> Member:
    return Member(subject=subject, **{"name": None, "joined_at": clock(), **changes})


def a_chat_session(clock: Clock, **changes: Any) -> ChatSession:
    fields: dict[str, Any] = {
        "app": "shop",
        "incarnation": "first",
        "subject": ALICE.subject,
        "name": "Alice",
        "phone_session": "",
        "openid": None,
        "expires_at": clock() + 3_600,
    }
    return ChatSession(**{**fields, **changes})


def a_conversation(clock: Clock, subject: str = "pretend:bob", **changes: Any) -> Conversation:
    conversation = Conversation(
        room=pair_room(ALICE.subject, subject),
        subject=subject,
        name="Bob",
        epoch="e1",
        offset=1,
        at=clock(),
    )
    return conversation._replace(**changes)


async def say(
    store: StateBackend, message: NewMessage, room: RoomKey = ROOM, retention: Retention = KEEP
) -> Appended:
    """Append a message, and return its place."""
    appended = await store.chat.rooms.append(room, message, retention=retention)
    assert isinstance(appended, Appended)
    return appended


async def entries_of(
    store: StateBackend, clock: Clock, room: RoomKey = ROOM, retention: Retention = KEEP
) -> Sequence[Entry]:
    page = await store.chat.rooms.read(room, limit=2_000, now=clock(), retention=retention)
    return page.entries
