"""Tests of the guarantees of the stores of tunnels, over each backend."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from broker.apps.model import app_key
from broker.bus import open_bus
from broker.errors import Unavailable
from broker.infrastructure.coordination import Notice
from broker.infrastructure.sharding import SHARDS
from broker.state import StateBackend, open_state
from broker.state.memory.tunnels import MemoryTunnels
from broker.tunnels.model import (
    ClosedBy,
    StoredMessage,
    TunnelState,
    new_ticket,
    new_tunnel_id,
    secret_hash,
)
from broker.tunnels.ports import (
    CLOSED_TTL,
    PUSH_ID_TTL,
    PUSH_IDS_MAX,
    READ_MAX,
    RECORD_TTL,
    REPLIES_MAX,
    REPLY_TTL,
    STREAM_MAX,
    TUNNEL_NEWS,
    AppendedMessage,
    Push,
    StreamReading,
    TunnelQuery,
)
from tests.support.builders import STATES, Clock
from tests.support.servers.redis import MARGIN, Engines, PassTime
from tests.support.tunnels import a_close, a_tunnel, next_version, push, stored_tunnel
from tests.support.waiting import opened, opened_bus

OWNER = app_key("shop", "first")

FAR = 2_000_000_000.0


async def reading(store: StateBackend, tunnel_id: str, position: int = 0) -> StreamReading:
    found = await store.tunnels.streams.read({tunnel_id: position}, "one")
    return found[tunnel_id]


async def ids_of(store: StateBackend, query: TunnelQuery, limit: int = 100) -> list[str]:
    """Return the ids on all pages of a query."""
    found, after = [], ""
    while True:
        page = await store.tunnels.index.find(query, after=after, limit=limit)
        found += [one.id for one in page.tunnels]
        if not page.next:
            return found
        after = page.next


# Tickets


async def test_ticket_is_taken_once(clients: list[StateBackend], clock: Clock) -> None:
    tunnel = a_tunnel(attachment=0)
    ticket = new_ticket(tunnel.id)
    await clients[0].tunnels.tickets.put(secret_hash(ticket), tunnel, clock() + 60)

    taken = await asyncio.gather(
        *(
            clients[number % len(clients)].tunnels.tickets.take(ticket[0], secret_hash(ticket))
            for number in range(100)
        )
    )

    assert [one for one in taken if one is not None] == [tunnel]


async def test_expired_ticket_is_not_taken(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    tunnel = a_tunnel()
    ticket = new_ticket(tunnel.id)
    await store.tunnels.tickets.put(secret_hash(ticket), tunnel, clock() + 60)

    pass_time(60)

    assert await store.tunnels.tickets.take(ticket[0], secret_hash(ticket)) is None


async def test_unknown_ticket_is_not_taken(store: StateBackend) -> None:
    assert await store.tunnels.tickets.take("A", secret_hash("A" * 43)) is None


# Records


async def test_all_fields_of_a_tunnel_are_stored(store: StateBackend) -> None:
    tunnel = a_tunnel(
        api="wafer",
        callback_url="https://shop.example/tunnel",
        subject="爱丽丝",
        session="s" * 22,
        person="person",
        meta='{"seat": 3, "名": "é"}',
        state=TunnelState.AWAY,
        due_at=1_000_060.125,
        lost_by=ClosedBy.DRAIN,
    )

    assert await store.tunnels.records.change(tunnel, attachment=0) == (0, "")

    assert await store.tunnels.records.get(tunnel.id) == tunnel
    assert await store.tunnels.records.get(new_tunnel_id()) is None


async def test_new_tunnel_does_not_replace_another(store: StateBackend) -> None:
    tunnel = await stored_tunnel(store)

    assert await store.tunnels.records.change(next_version(tunnel, app="x"), attachment=0) is None

    assert await store.tunnels.records.get(tunnel.id) == tunnel


async def test_change_needs_the_current_attachment(store: StateBackend) -> None:
    tunnel = await stored_tunnel(store, attachment=2)
    records = store.tunnels.records

    for attachment in (0, 1, 3):
        assert await records.change(next_version(tunnel, meta="[]"), attachment=attachment) is None
    assert await records.change(a_tunnel(), attachment=1) is None

    assert await records.get(tunnel.id) == tunnel
    changed = next_version(tunnel, meta='{"a": 1}')
    assert await records.change(changed, attachment=2) == (0, "")
    assert await records.get(tunnel.id) == changed


async def test_change_needs_the_version_before(store: StateBackend) -> None:
    tunnel, records = await stored_tunnel(store, version=7), store.tunnels.records

    for version in (6, 7, 9):
        change = replace(tunnel, version=version, attachment=2)
        assert await records.change(change, attachment=1) is None

    assert await records.get(tunnel.id) == tunnel
    assert list(await store.tunnels.streams.changed("one")) == []


async def test_concurrent_changes_with_retries_are_all_kept(clients: list[StateBackend]) -> None:
    tunnel = await stored_tunnel(clients[0], groups=())

    async def add(number: int) -> None:
        records = clients[number % len(clients)].tunnels.records
        while True:
            stored = await records.get(tunnel.id)
            assert stored is not None
            change = next_version(stored, groups=(*stored.groups, f"g{number}"))
            if await records.change(change, attachment=1) is not None:
                return

    await asyncio.gather(*map(add, range(9)))

    for number in range(9):
        assert await ids_of(clients[-1], TunnelQuery(OWNER, group=f"g{number}")) == [tunnel.id]


async def test_one_of_simultaneous_attachments_succeeds(clients: list[StateBackend]) -> None:
    tunnel = await stored_tunnel(clients[0], instance="old")
    changes = [next_version(tunnel, attachment=2, instance=f"i{number}") for number in range(15)]

    results = await asyncio.gather(
        *(
            clients[number % len(clients)].tunnels.records.change(after, attachment=1)
            for number, after in enumerate(changes)
        )
    )

    [winner] = [number for number, result in enumerate(results) if result is not None]
    assert await clients[-1].tunnels.records.get(tunnel.id) == changes[winner]
    assert list(await clients[-1].tunnels.streams.changed("old")) == [tunnel.id]


async def test_change_takes_a_number_if_asked(store: StateBackend) -> None:
    records, tunnel = store.tunnels.records, a_tunnel()

    first = await records.change(tunnel, attachment=0, takes_seq=True)
    tunnel = next_version(tunnel)
    second = await records.change(tunnel, attachment=1)
    third = await records.change(next_version(tunnel), attachment=1, takes_seq=True)

    assert [first, second, third] == [(1, ""), (1, ""), (2, "")]


@pytest.mark.parametrize(
    "changes", [{"instance": "two"}, {"attachment": 2}], ids=["instance", "attachment"]
)
async def test_former_instance_of_an_open_tunnel_gets_news(
    store: StateBackend, changes: dict[str, object]
) -> None:
    tunnel = await stored_tunnel(store)

    moved = await store.tunnels.records.change(next_version(tunnel, **changes), attachment=1)

    assert moved == (0, "one")
    assert list(await store.tunnels.streams.changed("one")) == [tunnel.id]
    assert list(await store.tunnels.streams.changed("two")) == []


async def test_former_instance_of_an_away_tunnel_gets_none(store: StateBackend) -> None:
    tunnel = await stored_tunnel(store, state=TunnelState.AWAY)
    back = next_version(tunnel, state=TunnelState.OPEN, attachment=2, instance="two")

    assert await store.tunnels.records.change(back, attachment=1) == (0, "")

    assert list(await store.tunnels.streams.changed("one")) == []


async def test_ended_tunnel_is_unknown(store: StateBackend) -> None:
    tunnel = await stored_tunnel(store, due_at=1.0)
    stores = store.tunnels

    assert await stores.records.end(a_close(tunnel)) == "one"

    assert list(await stores.streams.changed("one")) == [tunnel.id]
    assert await stores.records.get(tunnel.id) is None
    assert await stores.records.change(tunnel, attachment=1) is None
    assert await stores.records.change(tunnel, attachment=0) is None
    assert await stores.records.touch({tunnel.id: (1, 5.0)}) == [tunnel.id]
    assert await stores.inboxes.number(tunnel.id, 1) is None
    assert await stores.streams.append(OWNER, "native", [Push(tunnel.id, b"1")]) == [None]
    assert await ids_of(store, TunnelQuery(OWNER)) == []
    assert await stores.index.count(OWNER) == 0
    assert await stores.index.due(10) == []
    assert list(await stores.index.owners()) == []


async def test_end_succeeds_once_and_for_its_repeat(
    store: StateBackend, pass_time: PassTime
) -> None:
    tunnel, records = await stored_tunnel(store), store.tunnels.records

    assert await records.end(a_close(tunnel, seq=3)) == "one"

    assert await records.end(a_close(tunnel, seq=3)) == ""
    assert await records.end(a_close(tunnel, seq=4)) is None
    pass_time(CLOSED_TTL - MARGIN)
    assert await records.end(a_close(tunnel, seq=3)) == ""
    pass_time(MARGIN)
    assert await records.end(a_close(tunnel, seq=3)) is None


async def test_end_needs_the_current_attachment(store: StateBackend) -> None:
    tunnel = await stored_tunnel(store, attachment=2)

    assert await store.tunnels.records.end(a_close(replace(tunnel, attachment=1))) is None
    assert await store.tunnels.records.end(a_close(a_tunnel())) is None

    assert await store.tunnels.records.get(tunnel.id) == tunnel


async def test_end_of_an_away_tunnel_sends_no_notice(store: StateBackend) -> None:
    tunnel = await stored_tunnel(store, state=TunnelState.AWAY)

    assert await store.tunnels.records.end(a_close(tunnel)) == ""

    assert list(await store.tunnels.streams.changed("one")) == []


async def test_ends_and_changes_in_a_race_agree(clients: list[StateBackend]) -> None:
    tunnels = [await stored_tunnel(clients[0]) for _ in range(10)]

    async def end(number: int, seq: int) -> str | None:
        records = clients[seq % len(clients)].tunnels.records
        return await records.end(a_close(tunnels[number], seq=seq))

    async def move(number: int) -> object:
        records = clients[number % len(clients)].tunnels.records
        moved = next_version(tunnels[number], attachment=2, instance="two")
        return await records.change(moved, attachment=1)

    async def race(number: int) -> tuple[int, bool]:
        *ended, moved = await asyncio.gather(
            *(end(number, seq) for seq in range(1, 5)), move(number)
        )
        return sum(one is not None for one in ended), moved is not None

    results = [await race(number) for number in range(len(tunnels))]

    for tunnel, (ended, has_moved) in zip(tunnels, results, strict=True):
        assert ended + has_moved == 1
        stored = await clients[-1].tunnels.records.get(tunnel.id)
        assert (stored is not None) == has_moved
        assert (await reading(clients[-1], tunnel.id)).closed is None or not has_moved


async def test_record_without_touch_expires(store: StateBackend, pass_time: PassTime) -> None:
    tunnel = await stored_tunnel(store, due_at=1.0)
    await push(store, tunnel, Push(tunnel.id, b"1", keep=3 * RECORD_TTL))

    pass_time(RECORD_TTL - MARGIN)
    assert await store.tunnels.records.touch({tunnel.id: (1, 1_000_600.5)}) == []
    pass_time(RECORD_TTL - MARGIN)

    assert await store.tunnels.records.get(tunnel.id) == replace(tunnel, seen_at=1_000_600.5)
    assert await ids_of(store, TunnelQuery(OWNER)) == [tunnel.id]
    assert await ids_of(store, TunnelQuery(instance="one")) == [tunnel.id]
    assert list(await store.tunnels.index.owners()) == ["one"]
    assert [one.id for one in await store.tunnels.index.due(10)] == [tunnel.id]
    pass_time(MARGIN)
    assert await store.tunnels.records.get(tunnel.id) is None
    assert await ids_of(store, TunnelQuery(OWNER)) == []
    assert await store.tunnels.index.count(OWNER) == 0
    assert await reading(store, tunnel.id) == StreamReading(0)


async def test_touch_returns_tunnels_that_are_elsewhere(store: StateBackend) -> None:
    here, moved = await stored_tunnel(store), await stored_tunnel(store, attachment=2)
    unknown = new_tunnel_id()

    seen = {here.id: (1, 2.5), moved.id: (1, 2.5), unknown: (1, 2.5)}
    missing = await store.tunnels.records.touch(seen)

    assert sorted(missing) == sorted([moved.id, unknown])
    assert await store.tunnels.records.get(here.id) == replace(here, seen_at=2.5)
    assert await store.tunnels.records.get(moved.id) == moved


async def test_touch_of_many_tunnels_reaches_all(store: StateBackend) -> None:
    tunnels = [
        await stored_tunnel(store, id=SHARDS[number % 2] + new_tunnel_id()[1:])
        for number in range(120)
    ]

    assert await store.tunnels.records.touch({one.id: (1, 7.0) for one in tunnels}) == []

    for tunnel in (tunnels[0], tunnels[-1]):
        assert await store.tunnels.records.get(tunnel.id) == replace(tunnel, seen_at=7.0)


# Index


async def test_tunnels_are_found_by_each_condition(store: StateBackend) -> None:
    tunnel = await stored_tunnel(store, person="p1")
    await stored_tunnel(store, app="blog", person="p1", instance="two")
    await stored_tunnel(store, subject="bob", groups=(), person="p2", state=TunnelState.AWAY)

    for query in (
        TunnelQuery(OWNER, subject="pretend:alice"),
        TunnelQuery(OWNER, group="players"),
        TunnelQuery(OWNER, person="p1"),
        TunnelQuery(instance="one"),
    ):
        page = await store.tunnels.index.find(query)
        assert list(page.tunnels) == [tunnel]
    assert len(await ids_of(store, TunnelQuery(OWNER))) == 2
    assert await store.tunnels.index.count(OWNER) == 2
    assert sorted(await store.tunnels.index.owners()) == ["one", "two"]
    for query in (
        TunnelQuery(OWNER, subject="pretend:ali"),
        TunnelQuery(app_key("blog", "first"), group="match-2"),
        TunnelQuery("other"),
        TunnelQuery(instance="three"),
    ):
        assert await ids_of(store, query) == []


async def test_changed_tunnel_is_found_by_new_values_only(store: StateBackend) -> None:
    tunnel = await stored_tunnel(store)

    changed = next_version(
        tunnel, attachment=2, subject="bob", groups=("players", "new"), instance="two"
    )
    await store.tunnels.records.change(changed, attachment=1)

    for query in (
        TunnelQuery(OWNER, subject="pretend:alice"),
        TunnelQuery(OWNER, group="match-1"),
        TunnelQuery(instance="one"),
    ):
        assert await ids_of(store, query) == []
    for query in (
        TunnelQuery(OWNER),
        TunnelQuery(OWNER, subject="bob"),
        TunnelQuery(OWNER, group="players"),
        TunnelQuery(OWNER, group="new"),
        TunnelQuery(instance="two"),
    ):
        assert await ids_of(store, query) == [tunnel.id]
    assert list(await store.tunnels.index.owners()) == ["two"]
    assert await store.tunnels.index.count(OWNER) == 1


async def test_away_tunnel_has_no_owner(store: StateBackend) -> None:
    tunnel = await stored_tunnel(store)

    await store.tunnels.records.change(next_version(tunnel, state=TunnelState.AWAY), attachment=1)

    assert list(await store.tunnels.index.owners()) == []
    assert await ids_of(store, TunnelQuery(instance="one")) == []
    assert await ids_of(store, TunnelQuery(OWNER)) == [tunnel.id]


async def test_pages_have_each_tunnel_once_in_order(store: StateBackend) -> None:
    tunnels = [await stored_tunnel(store) for _ in range(25)]

    found = await ids_of(store, TunnelQuery(OWNER), limit=10)

    assert found == sorted(one.id for one in tunnels)
    page = await store.tunnels.index.find(TunnelQuery(OWNER), limit=25)
    assert page.next == ""


async def test_tunnels_that_end_between_pages_skip_no_other(store: StateBackend) -> None:
    tunnels = sorted([await stored_tunnel(store) for _ in range(9)], key=lambda one: one.id)
    query = TunnelQuery(OWNER)
    first = await store.tunnels.index.find(query, limit=3)

    for tunnel in (tunnels[0], tunnels[2], tunnels[4]):
        await store.tunnels.records.end(a_close(tunnel))
    second = await store.tunnels.index.find(query, after=first.next, limit=10)

    assert [one.id for one in second.tunnels] == [tunnels[at].id for at in (3, 5, 6, 7, 8)]


async def test_due_tunnels_are_returned_until_they_change(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    never, later = await stored_tunnel(store), await stored_tunnel(store, due_at=clock() + 60)
    index = store.tunnels.index

    assert await index.due(10) == []
    pass_time(60)
    assert [one.id for one in await index.due(10)] == [later.id]
    assert [one.id for one in await index.due(10)] == [later.id]
    await store.tunnels.records.change(next_version(later, due_at=clock() + 1), attachment=1)
    assert await index.due(10) == []
    await store.tunnels.records.change(next_version(never, due_at=clock() - 1), attachment=1)
    assert [one.id for one in await index.due(10)] == [never.id]


async def test_due_returns_at_most_the_limit(store: StateBackend) -> None:
    for _ in range(5):
        await stored_tunnel(store, due_at=5.0)

    assert len(await store.tunnels.index.due(3)) == 3


# Streams


async def test_messages_are_read_in_order_from_an_offset(store: StateBackend) -> None:
    tunnel = await stored_tunnel(store)
    data = [b'"a"', '"é"'.encode(), b"\x00\xff", b"x" * 70_000]

    appended = await store.tunnels.streams.append(
        OWNER, "native", [Push(tunnel.id, one) for one in data]
    )

    assert appended == [AppendedMessage(number, True, "one") for number in (1, 2, 3, 4)]
    assert list(await store.tunnels.streams.changed("one")) == [tunnel.id]
    found = await reading(store, tunnel.id, 1)
    assert list(found.messages) == [
        StoredMessage(number, one) for number, one in enumerate(data[1:], 2)
    ]
    assert (found.attachment, found.last, found.is_complete, found.closed) == (1, 4, True, None)
    assert await reading(store, tunnel.id, 4) == StreamReading(1, [], 4, is_open=True)


async def test_append_to_foreign_tunnels_stores_nothing(store: StateBackend) -> None:
    tunnel = await stored_tunnel(store)
    streams = store.tunnels.streams

    assert await streams.append(app_key("blog", "first"), "native", [Push(tunnel.id, b"1")]) == [
        None
    ]
    assert await streams.append(OWNER, "wafer", [Push(tunnel.id, b"1")]) == [None]
    assert await streams.append(OWNER, "native", [Push(new_tunnel_id(), b"1")]) == [None]

    assert await reading(store, tunnel.id) == StreamReading(1, [], is_open=True)
    assert list(await streams.changed("one")) == []


async def test_append_to_an_away_tunnel_sends_no_notice(store: StateBackend) -> None:
    tunnel = await stored_tunnel(store, state=TunnelState.AWAY)

    appended = await store.tunnels.streams.append(OWNER, "native", [Push(tunnel.id, b"1")])

    assert appended == [AppendedMessage(1, False, "")]
    assert list(await store.tunnels.streams.changed("one")) == []


async def test_results_of_an_append_keep_the_order(store: StateBackend) -> None:
    tunnels = [await stored_tunnel(store) for _ in range(80)]
    unknown = new_tunnel_id()
    targets = [one.id for one in tunnels for _ in range(3)]
    targets[100:100] = [unknown]

    appended = await store.tunnels.streams.append(
        OWNER, "native", [Push(one, f"{at}".encode()) for at, one in enumerate(targets)]
    )

    assert [at for at, one in enumerate(appended) if one is None] == [100]
    found = await store.tunnels.streams.read({one.id: 0 for one in tunnels}, "one")
    for tunnel in tunnels:
        places = [at for at, one in enumerate(targets) if one == tunnel.id]
        assert [appended[at] for at in places] == [
            (1, True, "one"),
            (2, True, "one"),
            (3, True, "one"),
        ]
        assert [int(one.data) for one in found[tunnel.id].messages] == places


async def test_read_begins_with_the_oldest_message(store: StateBackend) -> None:
    tunnel = await stored_tunnel(store)
    await push(store, tunnel, *[Push(tunnel.id, b"1")] * 80)
    await store.tunnels.streams.ack({tunnel.id: 40})

    found = await reading(store, tunnel.id, 3)

    assert [one.offset for one in found.messages] == list(range(41, 41 + READ_MAX))
    assert not found.is_complete
    assert await reading(store, tunnel.id, 90) == StreamReading(1, [], 80, is_open=True)


async def test_concurrent_appends_have_no_gap(clients: list[StateBackend]) -> None:
    tunnel = await stored_tunnel(clients[0])

    async def write(writer: int) -> list[int]:
        client, offsets = clients[writer % len(clients)], []
        for number in range(10):
            pushes = [Push(tunnel.id, b"%d" % (100 * writer + 5 * number + at)) for at in range(5)]
            offsets += await push(client, tunnel, *pushes)
        return offsets

    offsets = await asyncio.gather(*map(write, range(20)))

    assert sorted(one for part in offsets for one in part) == list(range(1, 1_001))
    assert all(part == sorted(part) for part in offsets)
    assert (await reading(clients[-1], tunnel.id)).last == 1_000


async def test_stream_keeps_the_newest_messages(store: StateBackend) -> None:
    tunnel = await stored_tunnel(store)
    for _ in range(6):
        await push(store, tunnel, *[Push(tunnel.id, b"1")] * 30)

    first = 180 - STREAM_MAX + 1
    found = await reading(store, tunnel.id)
    assert [one.offset for one in found.messages] == list(range(first, first + READ_MAX))
    assert (found.last, found.is_complete) == (180, False)
    assert (await reading(store, tunnel.id, first - 1)).is_complete
    assert not (await reading(store, tunnel.id, first - 2)).is_complete


async def test_each_message_is_kept_for_its_time(store: StateBackend, pass_time: PassTime) -> None:
    tunnel = await stored_tunnel(store)
    keeps = (10, 60, 300)
    await push(store, tunnel, *(Push(tunnel.id, b"1", keep=keep) for keep in keeps))

    pass_time(10)

    found = await reading(store, tunnel.id)
    assert [one.offset for one in found.messages] == [2, 3]
    assert not found.is_complete
    assert (await reading(store, tunnel.id, 1)).is_complete
    pass_time(280)
    assert [one.offset for one in (await reading(store, tunnel.id)).messages] == [3]
    pass_time(MARGIN)
    assert await reading(store, tunnel.id) == StreamReading(
        1, [], 3, is_complete=False, is_open=True
    )
    assert await push(store, tunnel, Push(tunnel.id, b"4")) == [4]


async def test_message_is_kept_as_long_as_earlier_ones(
    store: StateBackend, pass_time: PassTime
) -> None:
    tunnel = await stored_tunnel(store)
    await push(store, tunnel, *(Push(tunnel.id, b"1", keep=keep) for keep in (300, 10, 60)))

    pass_time(290)
    assert [one.offset for one in (await reading(store, tunnel.id)).messages] == [1, 2, 3]
    pass_time(MARGIN)
    assert await reading(store, tunnel.id) == StreamReading(
        1, [], 3, is_complete=False, is_open=True
    )


async def test_ack_deletes_messages_up_to_its_offset(store: StateBackend) -> None:
    tunnel, other = await stored_tunnel(store), await stored_tunnel(store)
    for one in (tunnel, other):
        await push(store, one, *[Push(one.id, b"1")] * 5)

    await store.tunnels.streams.ack({tunnel.id: 3, other.id: 5, new_tunnel_id(): 1})

    found = await reading(store, tunnel.id)
    assert [one.offset for one in found.messages] == [4, 5]
    assert not found.is_complete
    assert (await reading(store, tunnel.id, 3)).is_complete
    assert await reading(store, other.id, 5) == StreamReading(1, [], 5, is_open=True)
    assert await push(store, other, Push(other.id, b"1")) == [6]


async def test_repeated_push_id_is_stored_once(store: StateBackend, pass_time: PassTime) -> None:
    tunnel, other = await stored_tunnel(store), await stored_tunnel(store)
    one, two = Push(tunnel.id, b"1", "a"), Push(tunnel.id, b"2", "b")

    assert await push(store, tunnel, one, one._replace(data=b"3")) == [1, 1]
    assert await push(store, other, Push(other.id, b"0"), Push(other.id, b"1", "a")) == [1, 2]
    await store.tunnels.streams.ack({tunnel.id: 1})
    pass_time(PUSH_ID_TTL - MARGIN)
    assert await push(store, tunnel, one, two) == [1, 2]
    pass_time(MARGIN)

    assert await push(store, tunnel, one, two) == [3, 2]


async def test_newest_push_ids_are_remembered(store: StateBackend) -> None:
    tunnel = await stored_tunnel(store)
    pushes = [Push(tunnel.id, b"1", f"id-{number}") for number in range(PUSH_IDS_MAX + 1)]
    await push(store, tunnel, *pushes)

    assert await push(store, tunnel, pushes[-1], pushes[1]) == [PUSH_IDS_MAX + 1, 2]
    assert await push(store, tunnel, pushes[0]) == [PUSH_IDS_MAX + 2]


async def test_one_of_concurrent_repeats_is_stored(clients: list[StateBackend]) -> None:
    tunnel = await stored_tunnel(clients[0])

    offsets = await asyncio.gather(
        *(push(clients[at % len(clients)], tunnel, Push(tunnel.id, b"1", "a")) for at in range(9))
    )

    assert offsets == [[1]] * 9
    assert len((await reading(clients[0], tunnel.id)).messages) == 1


async def test_ended_tunnel_keeps_its_stream_for_a_time(
    store: StateBackend, pass_time: PassTime
) -> None:
    tunnel = await stored_tunnel(store)
    await push(store, tunnel, Push(tunnel.id, b"1", keep=1_000))
    closed = a_close(tunnel, seq=7, code=4011, reason="过期", by=ClosedBy.CLIENT)
    await store.tunnels.records.end(closed)

    pass_time(CLOSED_TTL - MARGIN)

    assert await reading(store, tunnel.id) == StreamReading(
        1, [StoredMessage(1, b"1")], 1, closed=closed, is_open=True
    )
    pass_time(MARGIN)
    assert await reading(store, tunnel.id) == StreamReading(0)


async def test_reading_tells_whether_tunnel_is_open(store: StateBackend) -> None:
    tunnel = await stored_tunnel(store)
    assert (await reading(store, tunnel.id)).is_open

    away = next_version(tunnel, state=TunnelState.AWAY)
    await store.tunnels.records.change(away, attachment=1)
    assert not (await reading(store, tunnel.id)).is_open

    await store.tunnels.records.end(a_close(away))
    assert not (await reading(store, tunnel.id)).is_open


async def test_read_takes_tunnels_from_the_changed_set(store: StateBackend) -> None:
    one, two, other = [await stored_tunnel(store) for _ in range(3)]
    elsewhere = await stored_tunnel(store, instance="two")
    for tunnel in (one, two, other, elsewhere):
        await push(store, tunnel, Push(tunnel.id, b"1"))

    await store.tunnels.streams.read({one.id: 0, two.id: 5, elsewhere.id: 0}, "one")

    assert list(await store.tunnels.streams.changed("one")) == [other.id]
    assert list(await store.tunnels.streams.changed("one")) == []
    assert list(await store.tunnels.streams.changed("two")) == [elsewhere.id]


async def test_changed_set_holds_each_tunnel_once(store: StateBackend) -> None:
    tunnels = [await stored_tunnel(store) for _ in range(40)]
    for tunnel in tunnels * 2:
        await push(store, tunnel, Push(tunnel.id, b"1"))

    assert sorted(await store.tunnels.streams.changed("one")) == sorted(one.id for one in tunnels)


@pytest.mark.parametrize("engine", STATES[1:], indirect=True)
async def test_lost_changed_set_is_returned_again(clients: list[StateBackend]) -> None:
    first, second, _ = clients
    one, two = await stored_tunnel(first), await stored_tunnel(first)
    await push(first, one, Push(one.id, b"1"))
    lost = await first.tunnels.streams.changed("one")
    await push(first, two, Push(two.id, b"1"))

    assert list(lost) == [one.id]
    assert sorted(await second.tunnels.streams.changed("one")) == sorted([one.id, two.id])
    assert list(await second.tunnels.streams.changed("one")) == []


async def test_append_publishes_if_the_state_has_the_bus(
    engine: str, engines: Engines, clock: Clock
) -> None:
    store, bus = (
        open_state(engines.url(engine), clock, publishes=True),
        open_bus(engines.url(engine)),
    )
    await opened(store)
    await opened_bus(bus)
    tunnel = await stored_tunnel(store)
    async with bus.listen("one") as notices:
        [appended] = await store.tunnels.streams.append(OWNER, "native", [Push(tunnel.id, b"1")])

        assert appended is not None
        if not appended.notify:
            assert await anext(notices) == Notice(TUNNEL_NEWS, tunnel.id)
    assert (appended.notify == "") == (engine not in ("memory", "cluster"))
    assert list(await store.tunnels.streams.changed("one")) == [tunnel.id]
    await bus.close()
    await store.close()


# Inbox


async def test_numbers_of_callbacks_have_no_gap(clients: list[StateBackend]) -> None:
    tunnel = await stored_tunnel(clients[0])

    async def take(number: int) -> int:
        inboxes = clients[number % len(clients)].tunnels.inboxes
        found = await inboxes.number(tunnel.id, 1, "" if number % 2 else f"id-{number}")
        assert found is not None
        assert (found.tunnel, found.reply) == (tunnel, None)
        return found.seq

    taken = await asyncio.gather(*map(take, range(20)))

    assert sorted(taken) == list(range(1, 21))
    records = clients[0].tunnels.records
    assert await records.change(next_version(tunnel), attachment=1, takes_seq=True) == (21, "")


async def test_number_needs_the_current_attachment(store: StateBackend) -> None:
    tunnel = await stored_tunnel(store, attachment=2)
    inboxes = store.tunnels.inboxes

    assert await inboxes.number(tunnel.id, 1) is None
    assert await inboxes.number(tunnel.id, 3, "a") is None
    assert await inboxes.number(new_tunnel_id(), 0) is None

    found = await inboxes.number(tunnel.id, 2, "a")
    assert found is not None
    assert found.seq == 1


async def test_repeated_id_gets_its_number_and_reply(
    store: StateBackend, pass_time: PassTime
) -> None:
    tunnel = await stored_tunnel(store)
    inboxes = store.tunnels.inboxes
    reply = b'{"a": "1 2 \xc3\xa9\n"}'

    assert await inboxes.number(tunnel.id, 1, "a") == (1, tunnel, None)
    assert await inboxes.number(tunnel.id, 1, "b") == (2, tunnel, None)
    assert await inboxes.number(tunnel.id, 1, "a") == (1, tunnel, None)
    await inboxes.settle(tunnel.id, "a", reply)
    await inboxes.settle(tunnel.id, "b", b"")
    await inboxes.settle(tunnel.id, "unknown", b"1")

    pass_time(REPLY_TTL - MARGIN)
    assert await inboxes.number(tunnel.id, 1, "a") == (1, tunnel, reply)
    assert await inboxes.number(tunnel.id, 1, "b") == (2, tunnel, b"")
    assert await inboxes.number(tunnel.id, 1, "unknown") == (3, tunnel, None)
    pass_time(MARGIN)
    assert await inboxes.number(tunnel.id, 1, "a") == (4, tunnel, None)


async def test_newest_client_ids_are_remembered(store: StateBackend) -> None:
    tunnel = await stored_tunnel(store)
    ids = [f"id-{number}" for number in range(REPLIES_MAX + 1)]

    async def seq_of(message_id: str) -> int:
        found = await store.tunnels.inboxes.number(tunnel.id, 1, message_id)
        assert found is not None
        return found.seq

    numbers = [await seq_of(one) for one in ids]

    assert numbers == list(range(1, REPLIES_MAX + 2))
    assert await seq_of(ids[1]) == 2
    assert await seq_of(ids[0]) == REPLIES_MAX + 2


# Round trips


@pytest.mark.parametrize("engine", ["valkey"], indirect=True)
async def test_each_act_of_a_tunnel_is_one_script(
    store: StateBackend, engine: str, engines: Engines
) -> None:
    tunnel, other = await stored_tunnel(store), await stored_tunnel(store)
    stores = store.tunnels
    pushes = [Push(one, b"1", "a") for one in (tunnel.id, other.id, new_tunnel_id())]
    acts: list[Callable[[], Awaitable[object]]] = [
        lambda: stores.records.change(next_version(tunnel), attachment=1, takes_seq=True),
        lambda: stores.streams.append(OWNER, "native", pushes),
        lambda: stores.streams.read({tunnel.id: 0, other.id: 0}, "one"),
        lambda: stores.streams.ack({tunnel.id: 1, other.id: 1}),
        lambda: stores.streams.changed("one"),
        lambda: stores.inboxes.number(tunnel.id, 1, "a"),
        lambda: stores.records.touch({tunnel.id: (1, 1.0), other.id: (1, 1.0)}),
        lambda: stores.records.end(a_close(other)),
    ]
    for act in acts:
        before = engines.script_calls(engine)
        await act()
        assert engines.script_calls(engine) - before == 1


# Bounds


async def test_no_key_of_a_tunnel_remains(
    store: StateBackend, engine: str, engines: Engines, clock: Clock, pass_time: PassTime
) -> None:
    stores = store.tunnels
    ticket = new_ticket(new_tunnel_id())
    await stores.tickets.put(secret_hash(ticket), a_tunnel(), clock() + 60)
    for number, shard in enumerate(SHARDS[:8]):
        tunnel = await stored_tunnel(store, id=shard + new_tunnel_id()[1:], due_at=FAR, person="p")
        await push(store, tunnel, Push(tunnel.id, b"1", "a"), Push(tunnel.id, b"2", keep=5_000))
        await stores.inboxes.number(tunnel.id, 1, "a")
        await stores.inboxes.settle(tunnel.id, "a", b"1")
        await stores.records.touch({tunnel.id: (1, 1.0)})
        if number % 2:
            await stores.records.end(a_close(tunnel))

    pass_time(max(RECORD_TTL, 5_000))

    assert [node.client().dbsize() for node in engines.nodes(engine)] == [0] * len(
        engines.nodes(engine)
    )


async def test_memory_drops_expired_tunnels(clock: Clock) -> None:
    tunnels = MemoryTunnels(clock)
    one, two = a_tunnel(), a_tunnel()
    await tunnels.change(one, attachment=0)
    await tunnels.change(two, attachment=0)
    await tunnels.end(a_close(one))

    clock.time += CLOSED_TTL
    await tunnels.touch({})
    assert len(tunnels) == 1
    clock.time += RECORD_TTL
    await tunnels.touch({})

    assert len(tunnels) == 0


async def test_memory_limits_the_bytes_of_messages(clock: Clock) -> None:
    tunnels, tunnel = MemoryTunnels(clock, bytes_max=100), a_tunnel()
    await tunnels.change(tunnel, attachment=0)
    message = Push(tunnel.id, b"x" * 30, keep=10)
    await tunnels.append(OWNER, "native", [message, message])
    assert await tunnels.number(tunnel.id, 1, "a") is not None
    await tunnels.settle(tunnel.id, "a", b"x" * 30)

    with pytest.raises(Unavailable):
        await tunnels.append(OWNER, "native", [message])
    with pytest.raises(Unavailable):
        await tunnels.settle(tunnel.id, "a", b"x" * 30)

    clock.time += 10
    found = await tunnels.append(OWNER, "native", [message, message])
    assert [one.offset for one in found if one is not None] == [3, 4]
    await tunnels.ack({tunnel.id: 4})
    clock.time += REPLY_TTL
    for _ in range(3):
        await tunnels.append(OWNER, "native", [message])


async def test_memory_limits_the_number_of_tunnels(clock: Clock) -> None:
    tunnels = MemoryTunnels(clock, capacity=2)
    for _ in range(2):
        await tunnels.change(a_tunnel(), attachment=0)

    with pytest.raises(Unavailable):
        await tunnels.change(a_tunnel(), attachment=0)

    clock.time += RECORD_TTL
    await tunnels.change(a_tunnel(), attachment=0)
    assert len(tunnels) == 1
