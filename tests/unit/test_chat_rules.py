"""Tests of the rules of chat: names, recovery, deletion, data and limits."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest

from broker.chat.errors import ChatDenied
from broker.chat.limits import ChatLimits
from broker.chat.model import (
    Author,
    Message,
    Person,
    Restriction,
    RestrictionKind,
    RoomKey,
    RoomPage,
    pair_room,
)
from broker.chat.notices import Signal, SignalKind, parse_signal
from broker.chat.rules import (
    MODERATE,
    SAY,
    Position,
    check_data,
    denied_by,
    fit_page,
    is_recovered,
    may_delete,
    may_in_room,
    parse_may,
)
from broker.chat.schema_api import RoomRequest
from broker.errors import InvalidRequest, RateLimited
from broker.infrastructure.api.schema import parse
from broker.infrastructure.coordination import Notice


@pytest.mark.parametrize("name", ["a", "lounge", "A-b_c.d:1", "x" * 64, "@" + "A" * 43])
def test_room_name_is_accepted(name: str) -> None:
    assert parse(RoomRequest, {"room": name}).room == name


@pytest.mark.parametrize(
    "name", ["", "x" * 65, "a b", "a/b", "ä", "a\n", "~" + "A" * 43, "@", "@a", "@" + "A" * 44]
)
def test_room_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest):
        parse(RoomRequest, {"room": name})


def test_pair_has_one_room_in_any_order() -> None:
    digest = hashlib.sha256(b"3:bob6:\xe5\xbc\xa0\xe4\xb8\x89").digest()
    expected = "@" + base64.urlsafe_b64encode(digest).decode().rstrip("=")

    assert pair_room("bob", "张三") == pair_room("张三", "bob") == expected


def test_pairs_with_equal_joined_subjects_differ() -> None:
    assert pair_room("ab", "c") != pair_room("a", "bc")


def test_room_of_a_person_differs_from_pairs() -> None:
    room = Person("shop", "bob").room

    assert room.is_person
    assert not room.is_pair


def page_of(epoch: str = "e", head: int = 9, floor: int = 0, more: bool = False) -> RoomPage:
    return RoomPage(epoch, head, floor, (), more)


RECOVERIES: list[tuple[Position, RoomPage, bool]] = [
    (Position("e", 9), page_of(), True),
    (Position("e", 3), page_of(), True),
    (Position("e", 10), page_of(), False),
    (Position("old", 9), page_of(), False),
    (Position("e", 3), page_of(floor=4), False),
    (Position("e", 4), page_of(floor=4), True),
    (Position("e", 3), page_of(more=True), False),
    (Position("", 0), page_of(), True),
    (Position("", 0), page_of(floor=1), False),
    (Position("", 0), page_of("", 0), True),
    (Position("e", 2), page_of("", 0), False),
    (Position("", 1), page_of(), False),
]


@pytest.mark.parametrize(("position", "page", "expected"), RECOVERIES)
def test_position_is_recovered_within_the_page(
    position: Position, page: RoomPage, expected: bool
) -> None:
    assert is_recovered(position, page) is expected


@pytest.mark.parametrize(
    ("subject", "may", "age", "expected"),
    [
        ("alice", {SAY}, 120, True),
        ("alice", {SAY}, 121, False),
        ("bob", {SAY}, 1, False),
        ("bob", {SAY, MODERATE}, 10_000, True),
    ],
)
def test_message_may_be_deleted(subject: str, may: set[str], age: float, expected: bool) -> None:
    message = Message(id="1", sender=Author("alice"), text="hello", data=None, at=1_000.0, offset=1)

    assert may_delete(message, subject, may, now=1_000.0 + age) is expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["say", "moderate"], {SAY, MODERATE}),
        ([], set()),
        ("say", None),
        (["rule"], None),
        ([["say"]], None),
        (None, None),
    ],
)
def test_may_of_a_site_is_parsed(value: object, expected: set[str] | None) -> None:
    assert parse_may(value) == expected


def test_moderator_of_the_app_may_moderate_every_room() -> None:
    assert may_in_room(frozenset(), "mod", ("mod",)) == {SAY, MODERATE}
    assert may_in_room(frozenset({SAY}), "bob", ("mod",)) == {SAY}


def nested(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("data", [None, 0, "x", {"a": [1, {"b": None}]}, nested(31), "x" * 8_190])
def test_data_is_accepted(data: object) -> None:
    check_data(data)


@pytest.mark.parametrize("data", [nested(32), nested(900), "x" * 8_191, ["ä" * 4_096]])
def test_data_is_refused(data: object) -> None:
    with pytest.raises(InvalidRequest):
        check_data(data)


def test_restriction_is_reported_with_its_remaining_time() -> None:
    denied = denied_by(Restriction(RestrictionKind.MUTE, 100.0), now=90.5)

    assert isinstance(denied, ChatDenied)
    assert denied.body()["retry_after"] == 10


def test_says_are_limited_for_each_person() -> None:
    limits = ChatLimits(5)
    for _ in range(20):
        limits.count_say(Person("shop", "alice"), 100)

    with pytest.raises(RateLimited):
        limits.count_say(Person("shop", "alice"), 100)
    limits.count_say(Person("shop", "bob"), 100)


def test_large_message_counts_once_for_each_kilobyte() -> None:
    limits = ChatLimits(5)
    limits.count_say(Person("shop", "alice"), 19 * 1_024)

    with pytest.raises(RateLimited):
        limits.count_say(Person("shop", "alice"), 1)


def test_largest_message_is_within_the_smallest_limit() -> None:
    ChatLimits(1).count_say(Person("shop", "alice"), 20 * 1_024)


def test_page_of_large_messages_has_the_newest() -> None:
    entries = tuple(
        Message(id="1", sender=Author("alice"), text="x" * 4_000, data=None, at=1.0, offset=offset)
        for offset in range(1, 101)
    )

    page = fit_page(RoomPage("e", 100, 0, entries, more=False))

    assert page.more
    assert page.entries[-1].position == 100
    assert 25 < len(page.entries) < 33
    assert fit_page(RoomPage("e", 100, 0, entries[:9], more=False)).entries == entries[:9]


@pytest.mark.parametrize("subject", ["alice", "a/b//c", "张三"])
def test_signal_is_parsed_from_its_notice(subject: str) -> None:
    signal = Signal(SignalKind.SEEN, RoomKey("shop", "lounge"), 7, subject)

    assert parse_signal(signal.notice()) == signal


@pytest.mark.parametrize(
    "notice",
    [
        Notice("room-other", "shop/lounge/1/alice"),
        Notice("room-seen", "shop/lounge"),
        Notice("room-seen", "shop/lounge/x/alice"),
        Notice("room-seen", ""),
    ],
)
def test_invalid_signal_is_ignored(notice: Notice) -> None:
    assert parse_signal(notice) is None
