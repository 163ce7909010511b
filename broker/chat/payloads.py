"""Rooms and their entries as JSON values for clients."""

from __future__ import annotations

from collections.abc import Iterable

from broker.chat.model import Author, Conversation, Deletion, Entry, Member, Message

Payload = dict[str, object]


def author_payload(author: Author) -> Payload:
    return _named(author.subject, author.name, author.nickname)


def member_payload(member: Member, *, online: bool) -> Payload:
    return {**_named(member.subject, member.name, member.nickname), "online": online}


def _named(subject: str, name: str | None, nickname: str | None) -> Payload:
    named: Payload = {"subject": subject, "name": name}
    return named if nickname is None else {**named, "nickname": nickname}


def entry_payload(entry: Entry) -> Payload:
    """Return an entry as in `messages`. A message without text or data has no such field."""
    if isinstance(entry, Deletion):
        return {
            "type": "deleted",
            "offset": entry.offset,
            "by": entry.by,
            "entry": entry.entry,
        }
    return _message_payload(entry)


def entries_payload(entries: Iterable[Entry]) -> list[Payload]:
    return [entry_payload(entry) for entry in entries]


def push_of(room: str, entry: Entry) -> tuple[str, Payload]:
    """Return the event and the payload with which members receive an entry."""
    if isinstance(entry, Deletion):
        deletion: Payload = {"offset": entry.offset, "by": entry.by, "entry": entry.entry}
        return "chat-deleted", {"room": room, **deletion}
    return "chat-message", {"room": room, **_message_payload(entry)}


def _message_payload(message: Message) -> Payload:
    payload: Payload = {
        "offset": message.offset,
        "id": message.id,
        "from": author_payload(message.sender),
        "at": message.at,
    }
    if message.text is not None:
        payload["text"] = message.text
    if message.data is not None:
        payload["data"] = message.data
    return payload


def conversation_payload(conversation: Conversation) -> Payload:
    return {
        "room": conversation.room,
        "with": {"subject": conversation.subject, "name": conversation.name},
        "epoch": conversation.epoch,
        "offset": conversation.offset,
        "seen": conversation.seen,
        "at": conversation.at,
    }
