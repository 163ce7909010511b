"""Tests of the guarantees of the stores of chat, over each backend."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import chain, count, islice

import pytest

from broker.bus import open_bus
from broker.chat.model import (
    CHANGES_NOTICE,
    Appended,
    Change,
    ChangeKind,
    Deletion,
    Message,
    Person,
    Presence,
    Restriction,
    RestrictionKind,
    Retention,
    RoomKey,
    RoomPage,
    pair_room,
    room_notice,
)
from broker.chat.ports import (
    CHAT_SESSIONS_MAX,
    CONVERSATIONS_MAX,
    MARK_TTL,
    MEMBER_TTL,
    MEMBERS_MAX,
    MESSAGE_ID_TTL,
)
from broker.infrastructure.sharding import SHARDS, shard_of
from broker.state import StateBackend, open_state
from tests.support.builders import STATES, Clock
from tests.support.rooms import (
    ALICE,
    FEW,
    KEEP,
    ROOM,
    a_chat_session,
    a_conversation,
    a_member,
    a_message,
    entries_of,
    say,
)
from tests.support.servers.redis import MARGIN, Engines, PassTime
from tests.support.waiting import opened, opened_bus

OTHER_ROOM = RoomKey(ROOM.app, "other")
SHARD = shard_of(ALICE.room.name)
HASH, OTHER_HASH = b"h" * 32, b"o" * 32


async def join(
    store: StateBackend, clock: Clock, instance: str, *subjects: str, room: RoomKey = ROOM
) -> Presence:
    members = [a_member(clock, subject) for subject in subjects]
    found = await store.chat.members.refresh(instance, {room: members}, now=clock())
    return found[room]


# Rooms


async def test_unused_room_is_empty(store: StateBackend, clock: Clock) -> None:
    rooms = store.chat.rooms

    page = await rooms.read(ROOM, limit=10, now=clock(), retention=KEEP)

    assert page == RoomPage("", 0, 0, (), False)
    assert await rooms.delete(ROOM, 1, by="alice", at=clock(), retention=KEEP) is None


async def test_all_fields_of_messages_are_stored(store: StateBackend, clock: Clock) -> None:
    data = {"a": [1, 2.5, None, "é"], "b": {"c": True}}
    first = a_message(clock, "1", text="a\n\0b 你好")
    second = a_message(clock, "2", text=None, data=data, at=clock() + 0.125)

    places = [await say(store, first), await say(store, second)]

    page = await store.chat.rooms.read(ROOM, limit=10, now=clock(), retention=KEEP)
    assert [(one.offset, one.at) for one in places] == [(1, first.at), (2, second.at)]
    assert {one.epoch for one in places} == {page.epoch}
    assert (page.head, page.floor, page.more) == (2, 0, False)
    assert page.entries == tuple(
        Message(
            offset=offset, id=one.id, sender=one.sender, text=one.text, data=one.data, at=one.at
        )
        for offset, one in enumerate((first, second), 1)
    )


async def test_rooms_and_apps_are_separate(store: StateBackend, clock: Clock) -> None:
    other_app = RoomKey("blog", ROOM.name)

    places = [
        await say(store, a_message(clock, "1"), room) for room in (ROOM, OTHER_ROOM, other_app)
    ]

    assert [one.offset for one in places] == [1, 1, 1]
    assert len({one.epoch for one in places}) == 3


async def test_repeated_id_is_stored_once(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    await join(store, clock, "one", "alice")
    first = await say(store, a_message(clock, "1"))
    other = await say(store, a_message(clock, "1", "bob"))
    await store.chat.rooms.changes("one")
    pass_time(MESSAGE_ID_TTL - MARGIN)

    again = await say(store, a_message(clock, "1", text="another"))

    assert (again, other.offset) == (first._replace(pending=()), 2)
    assert list(await store.chat.rooms.changes("one")) == []
    pass_time(MARGIN)
    assert (await say(store, a_message(clock, "1"))).offset == 3


async def test_concurrent_messages_have_one_order(
    clients: list[StateBackend], clock: Clock
) -> None:
    async def write(writer: int) -> list[Appended]:
        client = clients[writer % len(clients)]
        messages = [a_message(clock, str(number), f"w{writer}") for number in range(20)]
        return [await say(client, message) for message in messages]

    places = await asyncio.gather(*map(write, range(6)))

    offsets = [[one.offset for one in part] for part in places]
    assert sorted(chain.from_iterable(offsets)) == list(range(1, 121))
    assert all(part == sorted(part) for part in offsets)
    assert len({one.epoch for part in places for one in part}) == 1
    stored = await entries_of(clients[-1], clock)
    assert [one.position for one in stored] == list(range(1, 121))


async def test_one_of_concurrent_repeats_is_stored(
    clients: list[StateBackend], clock: Clock
) -> None:
    places = await asyncio.gather(
        *(say(clients[number % len(clients)], a_message(clock, "1")) for number in range(9))
    )

    assert len(set(places)) == 1
    assert len(await entries_of(clients[0], clock)) == 1


async def test_pages_are_read_by_offset(store: StateBackend, clock: Clock) -> None:
    for number in range(1, 11):
        await say(store, a_message(clock, str(number)))

    async def offsets(**bounds: int) -> tuple[list[int], bool]:
        page = await store.chat.rooms.read(ROOM, now=clock(), retention=KEEP, **bounds)
        return [one.position for one in page.entries], page.more

    assert await offsets(limit=3) == ([8, 9, 10], True)
    assert await offsets(limit=10) == (list(range(1, 11)), False)
    assert await offsets(limit=5, after=7) == ([8, 9, 10], False)
    assert await offsets(limit=3, before=8) == ([5, 6, 7], True)
    assert await offsets(limit=9, after=2, before=5) == ([3, 4], False)
    assert await offsets(limit=9, after=10) == ([], False)
    assert await offsets(limit=9, before=1) == ([], False)
    assert await offsets(limit=9, after=2**70) == ([], False)
    assert await offsets(limit=2, before=2**70) == ([9, 10], True)
    assert await offsets(limit=2, before=-5) == ([], False)
    assert await offsets(limit=2, after=-5) == ([9, 10], True)


async def test_room_keeps_its_newest_entries(store: StateBackend, clock: Clock) -> None:
    for number in range(1, 9):
        await say(store, a_message(clock, str(number)), retention=FEW)

    page = await store.chat.rooms.read(ROOM, limit=10, now=clock(), retention=FEW)

    assert [one.position for one in page.entries] == [4, 5, 6, 7, 8]
    assert (page.head, page.floor) == (8, 3)


async def test_old_entries_are_not_returned(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    first = await say(store, a_message(clock, "1"), retention=FEW)
    pass_time(FEW.seconds - MARGIN)
    await say(store, a_message(clock, "2"), retention=FEW)

    assert len(await entries_of(store, clock, retention=FEW)) == 2
    pass_time(MARGIN)
    assert await store.chat.rooms.delete(ROOM, 1, by="alice", at=clock(), retention=FEW) is None
    page = await store.chat.rooms.read(ROOM, limit=9, now=clock(), retention=FEW)
    assert ([one.position for one in page.entries], page.head, page.floor) == ([2], 2, 1)
    pass_time(FEW.seconds)
    page = await store.chat.rooms.read(ROOM, limit=9, now=clock(), retention=FEW)
    assert page == RoomPage(first.epoch, 2, 2, (), False)
    assert (await say(store, a_message(clock, "3"), retention=FEW))[:2] == (first.epoch, 3)


@pytest.mark.parametrize("engine", STATES[1:], indirect=True)
async def test_lost_room_has_a_new_epoch(
    store: StateBackend, engine: str, engines: Engines, clock: Clock
) -> None:
    first = await say(store, a_message(clock, "1"))

    engines.empty(engine)
    again = await say(store, a_message(clock, "1"))

    assert again.offset == 1
    assert again.epoch != first.epoch


@pytest.mark.parametrize("engine", STATES[1:], indirect=True)
async def test_room_that_lost_its_record_begins_again(
    store: StateBackend, engine: str, engines: Engines, clock: Clock
) -> None:
    first = await say(store, a_message(clock, "1"))
    for node in engines.nodes(engine):
        with node.client() as client:
            for key in client.scan_iter("scanlogin:{?}:room:*"):
                client.delete(key)

    again = await say(store, a_message(clock, "2"))

    assert (again.offset, again.epoch == first.epoch) == (1, False)
    assert [one.position for one in await entries_of(store, clock)] == [1]


async def test_deletion_is_an_entry(store: StateBackend, clock: Clock) -> None:
    rooms = store.chat.rooms
    for number in "12":
        await say(store, a_message(clock, number))

    deleted = await rooms.delete(ROOM, 1, by="bob", at=clock() + 5.5, retention=KEEP)

    assert deleted is not None
    assert (deleted.offset, deleted.at) == (3, clock() + 5.5)
    entries = await entries_of(store, clock)
    assert [one.position for one in entries] == [2, 3]
    assert entries[1] == Deletion(entry=3, offset=1, by="bob", at=clock() + 5.5)
    for offset in (1, 3, 4, 0, -1, 2**70):
        assert await rooms.delete(ROOM, offset, by="bob", at=clock(), retention=KEEP) is None
    assert (await say(store, a_message(clock, "1"))).offset == 1


async def test_one_of_concurrent_deletions_succeeds(
    clients: list[StateBackend], clock: Clock
) -> None:
    await say(clients[0], a_message(clock, "1"))

    results = await asyncio.gather(
        *(
            clients[number % len(clients)].chat.rooms.delete(
                ROOM, 1, by=f"b{number}", at=clock(), retention=KEEP
            )
            for number in range(9)
        )
    )

    assert sum(one is not None for one in results) == 1
    assert [one.position for one in await entries_of(clients[0], clock)] == [2]


async def test_trim_drops_old_entries_of_unused_rooms(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    rooms = store.chat.rooms
    for number in range(3):
        await say(store, a_message(clock, str(number)), retention=FEW)
        await say(store, a_message(clock, str(number)), OTHER_ROOM, retention=FEW)
    pass_time(FEW.seconds / 2)
    await say(store, a_message(clock, "new"), retention=FEW)
    await say(store, a_message(clock, "new"), OTHER_ROOM, retention=FEW)

    assert await rooms.trim(now=clock(), retention=FEW) == 0
    pass_time(FEW.seconds / 2)
    assert await rooms.trim(now=clock(), retention=FEW) == 6
    assert await rooms.trim(now=clock(), retention=FEW) == 0

    page = await rooms.read(ROOM, limit=9, now=clock(), retention=FEW)
    assert ([one.position for one in page.entries], page.floor) == ([4], 3)


async def test_trim_reaches_all_rooms_of_a_shard(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    names = (name for name in map(str, count()) if shard_of(name) == "A")
    rooms = [RoomKey(ROOM.app, name) for name in islice(names, 25)]
    for seconds in (0, FEW.seconds):
        pass_time(seconds - MARGIN if seconds else 0)
        for room in rooms:
            await say(store, a_message(clock, f"{seconds}"), room, retention=FEW)
    pass_time(MARGIN)

    dropped = 0
    while number := await store.chat.rooms.trim(now=clock(), retention=FEW):
        dropped += number

    assert dropped == len(rooms)


# Changes


SHORT = Retention(entries=5, seconds=10.0)
"""A room loses its epoch while its members are online."""


def entries_change(place: Appended, offset: int) -> Change:
    return Change(ChangeKind.ENTRIES, ROOM, offset, epoch=place.epoch)


async def test_message_is_marked_for_each_instance(store: StateBackend, clock: Clock) -> None:
    await join(store, clock, "one", "alice")
    await join(store, clock, "two", "bob")
    await join(store, clock, "three", "carol", room=OTHER_ROOM)
    rooms = store.chat.rooms

    for number in "12":
        place = await say(store, a_message(clock, number))
        assert sorted(place.pending) == ["one", "two"]

    for instance in ("one", "two"):
        assert list(await rooms.changes(instance)) == [entries_change(place, 2)]
        assert list(await rooms.changes(instance)) == []
    assert list(await rooms.changes("three")) == []
    deleted = await rooms.delete(ROOM, 1, by="alice", at=clock(), retention=KEEP)
    assert deleted is not None
    assert sorted(deleted.pending) == ["one", "two"]
    assert list(await rooms.changes("one")) == [entries_change(deleted, 3)]


async def test_changes_of_two_epochs_are_separate(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    await join(store, clock, "one", "alice")
    places = [await say(store, a_message(clock, "1"), retention=SHORT)]
    pass_time(2 * SHORT.seconds + 1)
    await store.chat.rooms.trim(now=clock(), retention=SHORT)

    places.append(await say(store, a_message(clock, "2"), retention=SHORT))

    assert places[0].epoch != places[1].epoch
    changes = await store.chat.rooms.changes("one")
    assert sorted(changes) == sorted(entries_change(place, 1) for place in places)


async def test_changes_have_one_line_for_each_cause(store: StateBackend, clock: Clock) -> None:
    await join(store, clock, "one", ALICE.subject)
    await join(store, clock, "one", ALICE.subject, room=ALICE.room)
    chat, conversation = store.chat, a_conversation(clock)
    mute = Restriction(RestrictionKind.MUTE, clock() + 60)

    for number in "12":
        place = await say(store, a_message(clock, number))
        await chat.restrictions.put(ROOM, "a/b c", mute, now=clock())
    for first in (7, 5, 6):
        assert await chat.conversations.touch(ALICE, conversation, first=first, retention=KEEP) in (
            ["one"],
            ("one",),
        )

    changes = await chat.rooms.changes("one")
    assert sorted(changes) == sorted(
        [
            entries_change(place, 2),
            Change(ChangeKind.RESTRICTION, ROOM, 0, "a/b c"),
            Change(ChangeKind.CONVERSATION, RoomKey(ROOM.app, conversation.room), 5, ALICE.subject),
        ]
    )


@pytest.mark.parametrize("engine", STATES[1:], indirect=True)
async def test_lost_changes_are_returned_again(clients: list[StateBackend], clock: Clock) -> None:
    first, second, _ = clients
    await join(first, clock, "one", "alice")
    place = await say(first, a_message(clock, "1"))
    lost = await first.chat.rooms.changes("one")
    await say(first, a_message(clock, "2"))

    assert list(lost) == [entries_change(place, 1)]
    assert list(await second.chat.rooms.changes("one")) == [entries_change(place, 2)]
    assert list(await second.chat.rooms.changes("one")) == []


async def test_marks_of_a_dead_instance_expire(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    await join(store, clock, "one", "alice")
    await say(store, a_message(clock, "1"))

    pass_time(MARK_TTL - MARGIN)
    assert (await say(store, a_message(clock, "2"))).pending == ()
    pass_time(MARGIN)

    assert list(await store.chat.rooms.changes("one")) == []


async def test_stores_publish_if_the_state_has_the_bus(
    engine: str, engines: Engines, clock: Clock
) -> None:
    url = engines.url(engine)
    store, bus = open_state(url, clock, publishes=True), open_bus(url)
    await opened(store)
    await opened_bus(bus)
    await join(store, clock, "one", "alice")
    kick = Restriction(RestrictionKind.KICK, clock() + 60)
    async with bus.listen("one") as notices:
        place = await say(store, a_message(clock, "1"))
        pending = await store.chat.restrictions.put(ROOM, "bob", kick, now=clock())

        if engine in ("memory", "cluster"):
            assert (list(place.pending), list(pending)) == (["one"], ["one"])
        else:
            assert (list(place.pending), list(pending)) == ([], [])
            assert [await anext(notices) for _ in "12"] == [room_notice(ROOM), CHANGES_NOTICE]
    assert len(await store.chat.rooms.changes("one")) == 2
    await bus.close()
    await store.close()


# Restrictions


@pytest.mark.parametrize("kind", RestrictionKind)
async def test_restricted_person_cannot_say(
    store: StateBackend, clock: Clock, pass_time: PassTime, kind: RestrictionKind
) -> None:
    chat, restriction = store.chat, Restriction(kind, clock() + 60.5)
    await chat.restrictions.put(ROOM, "alice", restriction, now=clock())

    refused = await chat.rooms.append(ROOM, a_message(clock, "1"), retention=KEEP)

    assert refused == restriction
    assert list(await chat.restrictions.find(ROOM, "alice", now=clock())) == [restriction]
    assert await chat.restrictions.find(ROOM, "bob", now=clock()) == []
    assert await chat.restrictions.find(OTHER_ROOM, "alice", now=clock()) == []
    assert (await say(store, a_message(clock, "1", "bob"))).offset == 1
    assert (await say(store, a_message(clock, "1"), OTHER_ROOM)).offset == 1
    pass_time(60.5)
    assert await chat.restrictions.find(ROOM, "alice", now=clock()) == []
    assert (await say(store, a_message(clock, "1"))).offset == 2


async def test_restriction_that_ends_last_is_returned(store: StateBackend, clock: Clock) -> None:
    chat, kinds = store.chat, (RestrictionKind.KICK, RestrictionKind.MUTE)
    for kind, seconds in zip(kinds, (60, 90), strict=True):
        await chat.restrictions.put(
            ROOM, "alice", Restriction(kind, clock() + seconds), now=clock()
        )

    refused = await chat.rooms.append(ROOM, a_message(clock, "1"), retention=KEEP)

    assert refused == Restriction(RestrictionKind.MUTE, clock() + 90)
    assert len(await chat.restrictions.find(ROOM, "alice", now=clock())) == 2


async def test_ended_restriction_removes_its_kind(store: StateBackend, clock: Clock) -> None:
    chat = store.chat
    for kind in RestrictionKind:
        await chat.restrictions.put(ROOM, "alice", Restriction(kind, clock() + 60), now=clock())

    await chat.restrictions.put(
        ROOM, "alice", Restriction(RestrictionKind.KICK, clock()), now=clock()
    )

    [left] = await chat.restrictions.find(ROOM, "alice", now=clock())
    assert left.kind is RestrictionKind.MUTE


# Members


async def test_members_join_and_leave_once(store: StateBackend, clock: Clock) -> None:
    first = await join(store, clock, "one", "alice", "bob")
    second = await join(store, clock, "one", "alice", "bob")
    third = await join(store, clock, "two", "bob", "carol")
    members = store.chat.members

    assert (first.online, first.instances, first.was_listed) == (2, ("one",), False)
    assert (sorted(first.joined), first.left) == (["alice", "bob"], ())
    assert second == Presence(2, ("one",), was_listed=True)
    assert (third.online, sorted(third.instances), third.joined) == (3, ["one", "two"], ("carol",))
    left = await members.leave("one", ROOM, ["alice", "bob", "unknown"], now=clock())
    assert left == Presence(2, ("two",), left=("alice",), was_listed=True)
    left = await members.leave("two", ROOM, ["bob", "carol"], now=clock())
    assert (left.online, left.instances, sorted(left.left)) == (0, (), ["bob", "carol"])
    left = await members.leave("two", ROOM, ["bob"], now=clock())
    assert left == Presence(0, (), was_listed=False)


async def test_member_without_heartbeat_is_offline(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    members = store.chat.members
    await join(store, clock, "dead", "alice", "bob")
    pass_time(MEMBER_TTL - MARGIN)
    await join(store, clock, "one", "bob")
    assert sorted(await members.instances(ROOM, now=clock())) == ["dead", "one"]
    pass_time(MARGIN)

    assert (await members.page(ROOM, now=clock())).online == 1
    assert list(await members.instances(ROOM, now=clock())) == ["one"]
    found = await join(store, clock, "one", "bob", "carol")

    assert found == Presence(2, ("one",), joined=("carol",), left=("alice",), was_listed=True)
    assert (await join(store, clock, "one", "bob")).left == ()


async def test_return_after_a_lost_heartbeat_changes_nothing(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    await join(store, clock, "one", "alice")
    pass_time(MEMBER_TTL)

    found = await join(store, clock, "one", "alice")

    assert found == Presence(1, ("one",), was_listed=False)


async def test_members_that_are_left_out_keep_their_time(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    await join(store, clock, "one", "alice", "bob")
    pass_time(MEMBER_TTL - MARGIN)
    await join(store, clock, "one", "bob")
    assert (await join(store, clock, "one")).online == 2
    pass_time(MARGIN)

    assert (await join(store, clock, "one")).left == ("alice",)


async def test_refresh_without_members_extends_no_time(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    await join(store, clock, "one", "alice")
    pass_time(MEMBER_TTL - MARGIN)
    await join(store, clock, "one")
    pass_time(MARGIN)

    assert list(await store.chat.members.instances(ROOM, now=clock())) == []


async def test_room_without_members_has_no_key(
    store: StateBackend, engine: str, engines: Engines, clock: Clock
) -> None:
    await join(store, clock, "one", "alice", "bob")
    await store.chat.members.leave("one", ROOM, ["alice", "bob"], now=clock())

    nodes = engines.nodes(engine)
    assert [node.client().dbsize() for node in nodes] == [0] * len(nodes)


async def test_page_has_the_last_members_first(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    members = store.chat.members
    rooms = {
        ROOM: [a_member(clock, f"m{n}", joined_at=clock() + n) for n in range(MEMBERS_MAX + 5)]
    }
    await members.refresh("one", rooms, now=clock())
    late = a_member(clock, "late", joined_at=clock() + 999)
    await members.refresh("gone", {ROOM: [late]}, now=clock())
    pass_time(MEMBER_TTL - MARGIN)
    await members.refresh("one", rooms, now=clock())
    pass_time(MARGIN)

    page = await members.page(ROOM, now=clock())

    assert page.online == MEMBERS_MAX + 5
    assert list(page.members) == rooms[ROOM][:4:-1]
    assert (await members.page(OTHER_ROOM, now=clock())).members == ()


async def test_member_keeps_the_first_time_and_the_last_name(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    members = store.chat.members
    first = a_member(clock, "alice", joined_at=clock() + 0.25, name="A", nickname="first")
    await members.refresh("one", {ROOM: [first]}, now=clock())
    pass_time(1)
    later = a_member(clock, "alice", nickname="爱 ")
    await members.refresh("two", {ROOM: [later]}, now=clock())

    page = await members.page(ROOM, now=clock())

    assert (page.online, page.members) == (1, (replace(later, joined_at=first.joined_at),))


async def test_refresh_of_many_rooms_is_separate(store: StateBackend, clock: Clock) -> None:
    rooms = {RoomKey(ROOM.app, f"r{n}"): [a_member(clock, f"m{n}")] for n in range(20)}

    found = await store.chat.members.refresh("one", rooms, now=clock())

    assert {room: one.joined for room, one in found.items()} == {
        room: (members[0].subject,) for room, members in rooms.items()
    }


async def test_racing_members_join_and_leave_once(
    clients: list[StateBackend], clock: Clock
) -> None:
    async def come_and_go(number: int) -> list[Presence]:
        client, instance = clients[number % len(clients)], f"i{number}"
        joined = await join(client, clock, instance, "alice", f"m{number}")
        left = await client.chat.members.leave(instance, ROOM, ["alice", f"m{number}"], now=clock())
        return [joined, left]

    results = await asyncio.gather(*map(come_and_go, range(9)))
    found = list(chain.from_iterable(results))

    joined = sum(one.joined.count("alice") for one in found)
    assert joined == sum(one.left.count("alice") for one in found) >= 1
    for number in range(9):
        assert sum(one.joined.count(f"m{number}") for one in found) == 1
        assert sum(one.left.count(f"m{number}") for one in found) == 1
    assert (await clients[0].chat.members.page(ROOM, now=clock())).online == 0


# Chat sessions


async def test_chat_session_is_found_until_its_end(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    sessions = store.chat.sessions
    session = a_chat_session(clock, name=None, openid="o", expires_at=clock() + 60.5)
    await sessions.put(SHARD, HASH, session)

    assert await sessions.find(SHARD, HASH) == session
    assert await sessions.find(SHARD, OTHER_HASH) is None
    assert await sessions.extend(SHARD, HASH, clock() + 100.25)
    pass_time(100)
    assert await sessions.find(SHARD, HASH) == replace(session, expires_at=1_000_100.25)
    pass_time(0.25)
    assert await sessions.find(SHARD, HASH) is None
    assert not await sessions.extend(SHARD, HASH, clock() + 60)
    assert await sessions.find(SHARD, HASH) is None


async def test_ended_chat_session_stays_ended(clients: list[StateBackend], clock: Clock) -> None:
    for _ in range(5):
        await clients[0].chat.sessions.put(SHARD, HASH, a_chat_session(clock))

        await asyncio.gather(
            *(one.chat.sessions.extend(SHARD, HASH, clock() + 60) for one in clients),
            clients[-1].chat.sessions.end(SHARD, HASH),
            *(one.chat.sessions.extend(SHARD, HASH, clock() + 60) for one in clients),
        )

        assert await clients[0].chat.sessions.find(SHARD, HASH) is None


async def test_next_chat_session_drops_the_first_to_end(store: StateBackend, clock: Clock) -> None:
    sessions = store.chat.sessions
    hashes = [bytes([number]) * 32 for number in range(CHAT_SESSIONS_MAX + 1)]
    for number, one in enumerate(hashes[:-1]):
        end = clock() + 1_000 + number
        await sessions.put(SHARD, one, a_chat_session(clock, expires_at=end))
    await sessions.extend(SHARD, hashes[0], clock() + 9_000)
    await sessions.put(SHARD, OTHER_HASH, a_chat_session(clock, subject="bob"))

    await sessions.put(SHARD, hashes[-1], a_chat_session(clock, expires_at=clock() + 5_000))

    found = [await sessions.find(SHARD, one) is not None for one in (*hashes, OTHER_HASH)]
    assert found == [True, False, *[True] * CHAT_SESSIONS_MAX]


async def test_extended_chat_session_still_counts(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    sessions = store.chat.sessions
    await sessions.put(SHARD, HASH, a_chat_session(clock, expires_at=clock() + 60))
    await sessions.extend(SHARD, HASH, clock() + 5_000)
    pass_time(60)

    for number in range(CHAT_SESSIONS_MAX):
        session = a_chat_session(clock, expires_at=clock() + 9_000)
        await sessions.put(SHARD, bytes([number]) * 32, session)

    assert await sessions.find(SHARD, HASH) is None


async def test_ended_chat_session_is_not_counted(store: StateBackend, clock: Clock) -> None:
    sessions = store.chat.sessions
    hashes = [bytes([number]) * 32 for number in range(CHAT_SESSIONS_MAX)]
    for number, one in enumerate(hashes):
        end = clock() + 1_000 + number
        await sessions.put(SHARD, one, a_chat_session(clock, expires_at=end))
    await sessions.end(SHARD, hashes[-1])

    await sessions.put(SHARD, HASH, a_chat_session(clock, expires_at=clock() + 9_000))

    assert await sessions.find(SHARD, hashes[0]) is not None


# Conversations


async def test_conversations_are_returned_newest_first(store: StateBackend, clock: Clock) -> None:
    conversations = store.chat.conversations
    stored = [a_conversation(clock, f"p{n}", at=clock() + n, name=None) for n in (2, 1, 3)]

    for one in stored:
        assert list(await conversations.touch(ALICE, one, first=1, retention=KEEP)) == []

    ordered = sorted(stored, key=lambda one: -one.at)
    assert list(await conversations.of(ALICE, now=clock())) == ordered
    assert list(await conversations.of(Person("blog", ALICE.subject), now=clock())) == []


async def test_conversation_values_never_decrease_in_an_epoch(
    store: StateBackend, clock: Clock
) -> None:
    conversations, room = store.chat.conversations, pair_room(ALICE.subject, "pretend:bob")
    first = a_conversation(clock, offset=5, seen=3, at=clock() + 5.5, name="Bob 鲍勃")

    async def after(conversation: object) -> object:
        await conversations.touch(ALICE, conversation, first=1, retention=KEEP)  # type: ignore[arg-type]
        [found] = await conversations.of(ALICE, now=clock())
        return found

    assert await after(first) == first
    older = first._replace(offset=4, seen=2, at=clock(), name=None)
    assert await after(older) == first
    newer = first._replace(offset=9, seen=4, at=clock() + 6, name="Robert")
    assert await after(newer) == newer
    await conversations.see(ALICE, room, 7)
    await conversations.see(ALICE, room, 6)
    await conversations.see(ALICE, "@unknown", 6)
    assert await after(older) == newer._replace(seen=7)
    await conversations.see(ALICE, room, 2**70)
    assert await after(older) == newer._replace(seen=9)
    restarted = first._replace(epoch="e2", offset=1, seen=0, at=clock() + 1, name=None)
    assert await after(restarted) == restarted._replace(name="Robert")


async def test_conversation_expires_after_its_retention(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    conversations = store.chat.conversations
    await conversations.touch(ALICE, a_conversation(clock, "a"), first=1, retention=FEW)
    pass_time(10)
    await conversations.touch(ALICE, a_conversation(clock, "b"), first=1, retention=FEW)

    pass_time(FEW.seconds - 10)
    assert [one.subject for one in await conversations.of(ALICE, now=clock())] == ["b"]
    pass_time(10)
    assert await conversations.of(ALICE, now=clock()) == []


async def test_expired_conversation_begins_again(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    conversations, old = store.chat.conversations, a_conversation(clock, "a", offset=9, seen=9)
    await conversations.touch(ALICE, old, first=1, retention=FEW)
    pass_time(10)
    await conversations.touch(ALICE, a_conversation(clock, "b"), first=1, retention=FEW)
    pass_time(FEW.seconds - 10)

    new = a_conversation(clock, "a", offset=1, name=None)
    await conversations.touch(ALICE, new, first=1, retention=FEW)

    assert (await conversations.of(ALICE, now=clock()))[0] == new


async def test_next_conversation_drops_the_oldest(store: StateBackend, clock: Clock) -> None:
    conversations = store.chat.conversations
    for number in range(CONVERSATIONS_MAX + 1):
        conversation = a_conversation(clock, f"p{number}", at=clock() + number)
        await conversations.touch(ALICE, conversation, first=1, retention=KEEP)

    found = await conversations.of(ALICE, now=clock())

    assert [one.subject for one in found] == [f"p{n}" for n in range(CONVERSATIONS_MAX, 0, -1)]


# Round trips


@pytest.mark.parametrize("engine", ["valkey"], indirect=True)
async def test_each_act_in_a_room_is_one_script(
    store: StateBackend, engine: str, engines: Engines, clock: Clock
) -> None:
    await join(store, clock, "one", "alice")
    await join(store, clock, "two", "bob")
    acts: list[Callable[[], Awaitable[object]]] = [
        lambda: say(store, a_message(clock, "1")),
        lambda: store.chat.rooms.read(ROOM, limit=9, now=clock(), retention=KEEP),
        lambda: store.chat.rooms.delete(ROOM, 1, by="bob", at=clock(), retention=KEEP),
        lambda: store.chat.rooms.changes("one"),
        lambda: join(store, clock, "one", "alice", "carol"),
    ]
    for act in acts:
        before = engines.script_calls(engine)
        await act()
        assert engines.script_calls(engine) - before == 1


# Bounds


async def test_no_key_of_chat_remains(
    store: StateBackend, engine: str, engines: Engines, clock: Clock, pass_time: PassTime
) -> None:
    chat, retention = store.chat, Retention(10, 1_000.0)
    kick = Restriction(RestrictionKind.KICK, clock() + 500)
    for name in SHARDS[:6]:
        room = RoomKey(ROOM.app, name)
        await join(store, clock, "one", "alice", "bob", room=room)
        await say(store, a_message(clock, "1"), room, retention)
        await chat.rooms.delete(room, 1, by="alice", at=clock(), retention=retention)
        await chat.restrictions.put(room, "bob", kick, now=clock())
    await chat.sessions.put(SHARD, HASH, a_chat_session(clock, expires_at=clock() + 900))
    await chat.sessions.extend(SHARD, HASH, clock() + 1_500)
    other = a_chat_session(clock, subject="bob", expires_at=clock() + 900)
    await chat.sessions.put(SHARD, OTHER_HASH, other)
    await chat.conversations.touch(ALICE, a_conversation(clock), first=1, retention=retention)
    await chat.conversations.see(ALICE, pair_room(ALICE.subject, "pretend:bob"), 1)

    pass_time(2_000)

    nodes = engines.nodes(engine)
    assert [node.client().dbsize() for node in nodes] == [0] * len(nodes)
