"""Rules of chat: names of rooms, admission, recovery and the deletion of messages."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from broker.chat.errors import ChatDenied
from broker.chat.model import Message, Restriction, RestrictionKind, RoomPage
from broker.errors import InvalidRequest
from broker.infrastructure.codec import encode

ROOM_PATTERN = r"^[A-Za-z0-9._:-]{1,64}$|^@[A-Za-z0-9_-]{43}$"
"""Names of rooms: chosen by the app, or `pair_room`."""

PAIRS = "@"
"""The room name by which a site admits to point-to-point messages."""

HISTORY_MAX = 100
"""Messages in one answer, and messages that a client may have missed to be recovered."""

PAGE_MAX_BYTES = 128 * 1024
"""Bytes of the entries in one answer. The transport closes a connection with 256 KB unsent, and
the answer to `join` also has up to 100 members."""

DELETE_LIMIT = 120.0
"""Seconds in which people may delete their own messages."""

SAY, MODERATE = "say", "moderate"

MAY = (SAY, MODERATE)
"""The rights of a member, in the order of answers."""


def parse_may(value: object) -> frozenset[str] | None:
    """Return the `may` of a site's answer; None if it is not a list of known words."""
    if not isinstance(value, list) or not all(one in MAY for one in value):
        return None
    return frozenset(value)


def may_in_room(
    admitted: frozenset[str], subject: str, moderators: Collection[str]
) -> frozenset[str]:
    """Return what a person may do in a room: the app's moderators moderate every room."""
    return admitted | {SAY, MODERATE} if subject in moderators else admitted


def in_order(may: Collection[str]) -> list[str]:
    return [one for one in MAY if one in may]


class Position(NamedTuple):
    """The entries that a client has: all of `epoch` up to `offset`."""

    epoch: str
    offset: int


def is_recovered(position: Position, page: RoomPage) -> bool:
    """Return whether `page`, read from after the position, has all that the client misses.

    A client that has seen no entry, in a room without entries, has an empty epoch.
    """
    is_same = position.epoch == page.epoch or position == Position("", 0)
    return is_same and page.floor <= position.offset <= page.head and not page.more


def fit_page(page: RoomPage) -> RoomPage:
    """Leave out the oldest entries of a page if it is too large for one answer."""
    size, kept = 0, len(page.entries)
    for entry in reversed(page.entries):
        size += len(encode(entry))
        if size > PAGE_MAX_BYTES:
            break
        kept -= 1
    return page._replace(entries=page.entries[kept:], more=True) if kept else page


def may_delete(message: Message, subject: str, may: Collection[str], *, now: float) -> bool:
    """Return whether a member may delete a message: the sender early, or a moderator."""
    is_own = message.sender.subject == subject and now - message.at <= DELETE_LIMIT
    return is_own or MODERATE in may


def check_restrictions(
    restrictions: Sequence[Restriction], kind: RestrictionKind, *, now: float
) -> None:
    """Raise ChatDenied if there is a restriction of this kind."""
    for one in restrictions:
        if one.kind is kind:
            raise denied_by(one, now=now)


def denied_by(restriction: Restriction, *, now: float) -> ChatDenied:
    return ChatDenied(
        RESTRICTION_TEXTS[restriction.kind],
        retry_after=max(1, math.ceil(restriction.until - now)),
    )


RESTRICTION_TEXTS = {
    RestrictionKind.KICK: "a moderator has removed you from the room",
    RestrictionKind.MUTE: "a moderator has muted you in the room",
}

DATA_MAX_BYTES = 8 * 1024
"""Bytes of `data` as JSON."""

DATA_LEVELS = 32
"""Levels of nesting of `data`. Clients in all languages can read as many."""


def check_data(data: object) -> None:
    """Raise InvalidRequest for `data` that is too large or too deep for all members."""
    level = [data]
    for _ in range(DATA_LEVELS):
        level = [child for one in level for child in _children(one)]
    if level:
        raise InvalidRequest(f"data: has more than {DATA_LEVELS} levels")
    size = len(encode(data))
    if size > DATA_MAX_BYTES:
        raise InvalidRequest(f"data: has {size} bytes; at most {DATA_MAX_BYTES} are allowed")


def _children(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
