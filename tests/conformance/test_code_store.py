"""Conformance of code stores with CodeReservations, ReadyCodes and RetiredPictures."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable

import pytest
import sqlalchemy as sa

from broker.errors import Unavailable
from broker.pool.model import CodeCounts, CodeKey, CodeRecord, CodeReservation
from broker.records import pool_codes
from broker.records import tables as t
from broker.records.database import Database
from broker.records.pool_codes import SqlCodeStore
from tests.support.builders import Clock
from tests.support.pool import RESERVATION, draw, ready_codes, reserve
from tests.support.records import connected
from tests.support.servers.postgres import PostgresServer


@pytest.fixture
async def instance(records_url: str, clock: Clock) -> AsyncIterator[Callable[[], SqlCodeStore]]:
    """Makes code stores of several instances with one database."""
    databases: list[Database] = []

    def instance() -> SqlCodeStore:
        databases.append(Database(records_url))
        return SqlCodeStore(databases[-1], clock=clock)

    yield instance
    for database in databases:
        await database.close()


@pytest.fixture
def codes(instance: Callable[[], SqlCodeStore]) -> SqlCodeStore:
    return instance()


# --- CodeReservations


async def test_finished_code_is_ready_and_not_missing(codes: SqlCodeStore, clock: Clock) -> None:
    reservation = await reserve(codes, 1)
    before = await codes.missing("shop", 3), await ready_codes(codes)
    clock.time += 5

    code = await codes.finish(reservation, "picture.png")

    assert before == ([0, 1, 2], [])
    assert code == CodeRecord(
        app="shop",
        number=1,
        drawing=0,
        scene=reservation.scene,
        picture="picture.png",
        drawn_at=clock(),
    )
    assert await codes.missing("shop", 3) == [0, 2]
    assert await ready_codes(codes) == [code]


async def test_scenes_have_192_random_bits(codes: SqlCodeStore) -> None:
    scenes = {(await reserve(codes, number)).scene for number in range(20)}

    assert len(scenes) == 20
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{32}", scene) for scene in scenes)


async def test_scene_is_not_in_repr(codes: SqlCodeStore) -> None:
    reservation = await reserve(codes, 0)

    code = await codes.finish(reservation, "picture.png")

    assert reservation.scene not in repr([reservation, code])


async def test_apps_have_separate_numbers(codes: SqlCodeStore) -> None:
    shop, other = await draw(codes, 0), await draw(codes, 0, "other")

    assert shop.scene != other.scene
    assert await ready_codes(codes, "other") == [other]


async def test_active_reservation_excludes_other_callers(
    instance: Callable[[], SqlCodeStore], clock: Clock
) -> None:
    one, two = instance(), instance()
    await reserve(one, 0)

    clock.time += RESERVATION - 1

    assert await two.reserve("shop", 0, seconds=RESERVATION) is None


async def test_expired_reservation_is_taken_over_with_its_scene(
    instance: Callable[[], SqlCodeStore], clock: Clock
) -> None:
    one, two = instance(), instance()
    expired = await reserve(one, 0)
    clock.time += RESERVATION

    current = await reserve(two, 0)

    assert (current.scene, current.drawing) == (expired.scene, expired.drawing)
    assert await one.reserve("shop", 0, seconds=RESERVATION) is None


async def test_released_reservation_is_available_with_its_scene(codes: SqlCodeStore) -> None:
    released = await reserve(codes, 0)

    await codes.release_reservation(released)

    assert (await reserve(codes, 0)).scene == released.scene


async def test_expired_reservation_cannot_release_its_successor(
    codes: SqlCodeStore, clock: Clock
) -> None:
    expired = await reserve(codes, 0)
    clock.time += RESERVATION
    await reserve(codes, 0)

    await codes.release_reservation(expired)

    assert await codes.reserve("shop", 0, seconds=RESERVATION) is None


async def test_code_is_finished_once(codes: SqlCodeStore, clock: Clock) -> None:
    expired = await reserve(codes, 0)
    clock.time += RESERVATION
    current = await reserve(codes, 0)
    code = await codes.finish(current, "picture.png")

    assert await codes.finish(expired, "other.png") is None
    await codes.release_reservation(current)
    assert await ready_codes(codes) == [code]


async def test_number_with_ready_code_cannot_be_reserved(codes: SqlCodeStore, clock: Clock) -> None:
    await draw(codes, 0)
    clock.time += 10 * RESERVATION

    assert await codes.reserve("shop", 0, seconds=RESERVATION) is None


async def test_simultaneous_calls_reserve_a_number_once(
    instance: Callable[[], SqlCodeStore], clock: Clock
) -> None:
    instances = [instance() for _ in range(4)]

    async def race() -> list[CodeReservation]:
        calls = [
            one.reserve("shop", number, seconds=RESERVATION)
            for number in range(10)
            for one in instances
        ]
        return [one for one in await asyncio.gather(*calls) if one is not None]

    new = await race()
    clock.time += RESERVATION
    expired = await race()
    for reservation in expired:
        await instances[0].finish(reservation, "picture.png")
    await instances[0].retire(await ready_codes(instances[0]))
    retired = await race()

    for winners, drawing in ((new, 0), (expired, 0), (retired, 1)):
        assert Counter(one.number for one in winners) == dict.fromkeys(range(10), 1)
        assert {one.drawing for one in winners} == {drawing}
    assert {one.scene for one in new} == {one.scene for one in expired}


# --- ReadyCodes


async def test_retired_number_gets_new_scene_and_drawing(codes: SqlCodeStore, clock: Clock) -> None:
    old, other = await draw(codes, 0), await draw(codes, 1)
    clock.time += 5

    await codes.retire([old])

    assert await ready_codes(codes) == [other]
    assert await codes.missing("shop", 2) == [0]
    new = await draw(codes, 0)
    assert (new.drawing, new.drawn_at) == (1, clock())
    assert new.scene != old.scene


async def test_retiring_a_retired_code_changes_nothing(codes: SqlCodeStore) -> None:
    old = await draw(codes, 0)
    await codes.retire([old])
    new = await draw(codes, 0)

    await codes.retire([old])

    assert await ready_codes(codes) == [new]


async def test_retiring_a_reserved_number_changes_nothing(codes: SqlCodeStore) -> None:
    reservation = await reserve(codes, 0)

    await codes.retire([CodeKey("shop", 0, 0)])

    assert await codes.finish(reservation, "picture.png") is not None


async def test_ready_returns_codes_drawn_since_then(codes: SqlCodeStore, clock: Clock) -> None:
    await draw(codes, 0)
    clock.time += 10
    new = await draw(codes, 1)

    assert await codes.count("shop") == 2
    assert [batch async for batch in codes.ready("shop", since=clock())] == [[new]]


async def test_retired_returns_last_retired_drawing(codes: SqlCodeStore, clock: Clock) -> None:
    for _ in range(2):
        await codes.retire([await draw(codes, 0)])
    await codes.retire([await draw(codes, 1)])
    clock.time += 10
    await codes.retire([await draw(codes, 1)])
    await draw(codes, 1)

    assert [batch async for batch in codes.retired("shop")] == [{0: 1, 1: 1}]
    assert [batch async for batch in codes.retired("shop", since=clock())] == [{1: 1}]


async def test_drawn_before_returns_oldest_codes_first(codes: SqlCodeStore, clock: Clock) -> None:
    drawn = []
    for number in (2, 0, 1):
        drawn.append(await draw(codes, number))
        clock.time += 10
    await codes.retire([drawn[0]])

    assert await codes.drawn_before("shop", before=clock(), limit=5) == drawn[1:]
    assert await codes.drawn_before("shop", before=clock(), limit=1) == [drawn[1]]
    assert await codes.drawn_before("shop", before=drawn[1].drawn_at, limit=5) == []


async def test_batches_are_in_order_of_numbers(
    codes: SqlCodeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_codes, "BATCH_SIZE", 3)
    drawn = [await draw(codes, number) for number in (4, 0, 7, 2, 3, 1, 6)]

    ready = [[code.number for code in batch] async for batch in codes.ready("shop")]
    await codes.retire(drawn)
    retired = [list(batch) async for batch in codes.retired("shop")]

    assert ready == retired == [[0, 1, 2], [3, 4, 6], [7]]
    assert await codes.missing("shop", 8) == list(range(8))


async def test_codes_are_counted_by_app_and_state(codes: SqlCodeStore, clock: Clock) -> None:
    assert await codes.counts() == []
    first = await draw(codes, 0)
    clock.time += 5
    second, third = await draw(codes, 1), await draw(codes, 2)
    await reserve(codes, 3)
    await codes.retire([second, third])
    await codes.forget_pictures([third])
    await reserve(codes, 0, "other")

    assert await codes.counts() == [
        CodeCounts("other", ready=0, reserved=1, retired=0, leftover=0, oldest=None),
        CodeCounts("shop", ready=1, reserved=1, retired=2, leftover=1, oldest=first.drawn_at),
    ]


# --- RetiredPictures


async def test_retired_picture_is_returned_until_its_deletion(
    codes: SqlCodeStore, clock: Clock
) -> None:
    one, two = await draw(codes, 0), await draw(codes, 1)
    assert await codes.retired_with_picture("shop") == []

    await codes.retire([one])
    clock.time += 10
    await codes.retire([two])

    assert await codes.retired_with_picture("shop") == [one, two]
    assert await codes.retired_with_picture("shop", before=clock()) == [one]
    assert await codes.retired_with_picture("other") == []
    await codes.forget_pictures([one])
    assert await codes.retired_with_picture("shop") == [two]


async def test_retired_pictures_are_returned_in_batches(
    codes: SqlCodeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_codes, "BATCH_SIZE", 2)
    drawn = [await draw(codes, number) for number in range(3)]
    await codes.retire(drawn)

    assert await codes.retired_with_picture("shop") == drawn[:2]


# --- failures


async def test_scene_is_unique_in_the_database(codes: SqlCodeStore, records_url: str) -> None:
    await draw(codes, 0)
    copy = sa.select(
        sa.literal("other"), t.codes.c.number, t.codes.c.drawing, t.codes.c.scene, sa.literal(0)
    )
    columns = ["app", "number", "drawing", "scene", "reserved_until"]
    database = Database(records_url)

    with pytest.raises(sa.exc.IntegrityError):
        async with database.write_transaction() as connection:
            await connection.execute(sa.insert(t.codes).from_select(columns, copy))
    await database.close()


async def test_unreachable_database_raises_unavailable(
    stoppable_postgres: PostgresServer, postgres_template: str, clock: Clock
) -> None:
    async with connected(stoppable_postgres.new_database(postgres_template)) as database:
        codes = SqlCodeStore(database, clock=clock)
        reservation, code = await reserve(codes, 0), await draw(codes, 1)
        stoppable_postgres.stop()

        for call in (
            codes.missing("shop", 1),
            codes.reserve("shop", 1, seconds=RESERVATION),
            codes.finish(reservation, "picture.png"),
            codes.release_reservation(reservation),
            codes.count("shop"),
            ready_codes(codes),
            anext(codes.retired("shop")),
            codes.drawn_before("shop", before=clock(), limit=1),
            codes.retire([code]),
            codes.retired_with_picture("shop"),
            codes.forget_pictures([code]),
            codes.removed_apps([]),
            codes.retire_all("shop"),
            codes.has_pictures("shop"),
            codes.forget("shop"),
            codes.counts(),
        ):
            with pytest.raises(Unavailable):
                await call

        stoppable_postgres.revive()
        assert await codes.finish(reservation, "picture.png") is not None
