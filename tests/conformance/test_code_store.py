"""Codes drawn ahead of time: what the records promise of them, whichever they are."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable

import pytest
import sqlalchemy as sa

from broker.pool.model import CodeCounts, CodeKey, CodeRecord, CodeReservation
from broker.records import pool_codes as codes_file
from broker.records import tables as t
from broker.records.database import Database
from broker.records.errors import RecordsUnavailable
from broker.records.pool_codes import SqlCodeStore
from tests.support.builders import Clock
from tests.support.records import connected
from tests.support.servers.postgres import PostgresServer

MINUTE = 60.0


@pytest.fixture
async def instance(records_url: str, clock: Clock) -> AsyncIterator[Callable[[], SqlCodeStore]]:
    """Makes one instance's codes after another's, all over one database."""
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


async def reserved(codes: SqlCodeStore, number: int, app: str = "shop") -> CodeReservation:
    one = await codes.reserve(app, number, seconds=MINUTE)
    assert one is not None
    return one


async def drawn(codes: SqlCodeStore, number: int, app: str = "shop") -> CodeRecord:
    code = await codes.finish(await reserved(codes, number, app), f"picture-{number}.png")
    assert code is not None
    return code


async def all_ready(codes: SqlCodeStore, app: str = "shop") -> list[CodeRecord]:
    return [code async for some in codes.ready(app) for code in some]


async def test_a_number_from_nothing_to_a_code(codes: SqlCodeStore, clock: Clock) -> None:
    assert await codes.missing("shop", 3) == [0, 1, 2]

    begun = await reserved(codes, 1)
    assert await codes.missing("shop", 3) == [0, 1, 2]
    assert await all_ready(codes) == []

    clock.time += 5
    code = await codes.finish(begun, "picture.png")

    assert code == CodeRecord(
        app="shop",
        number=1,
        drawing=0,
        scene=begun.scene,
        picture="picture.png",
        drawn_at=clock(),
    )
    assert await codes.missing("shop", 3) == [0, 2]
    assert await all_ready(codes) == [code]


async def test_scenes_have_192_random_bits_and_are_not_shown(codes: SqlCodeStore) -> None:
    some = [await reserved(codes, number) for number in range(20)]

    assert len({one.scene for one in some}) == 20
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{32}", one.scene) for one in some)
    code = await codes.finish(some[0], "picture.png")
    assert some[0].scene not in repr([some, code])


async def test_apps_have_numbers_of_their_own(codes: SqlCodeStore) -> None:
    mine, theirs = await drawn(codes, 0), await drawn(codes, 0, "other")

    assert mine.scene != theirs.scene
    assert await all_ready(codes, "other") == [theirs]


async def test_a_reserved_number_is_nobody_elses_for_a_while(
    instance: Callable[[], SqlCodeStore], clock: Clock
) -> None:
    one, two = instance(), instance()
    left = await reserved(one, 0)

    clock.time += MINUTE - 1
    assert await two.reserve("shop", 0, seconds=MINUTE) is None

    clock.time += 1
    taken = await reserved(two, 0)
    assert (taken.scene, taken.drawing) == (left.scene, left.drawing)
    assert await one.reserve("shop", 0, seconds=MINUTE) is None


async def test_a_number_that_is_let_go_of_is_free_at_once_with_the_scene_it_had(
    codes: SqlCodeStore,
) -> None:
    left = await reserved(codes, 0)

    await codes.release_reservation(left)

    assert (await reserved(codes, 0)).scene == left.scene


async def test_whoever_is_late_lets_go_of_nothing_and_finishes_nothing(
    codes: SqlCodeStore, clock: Clock
) -> None:
    late = await reserved(codes, 0)
    clock.time += MINUTE
    taken = await reserved(codes, 0)

    await codes.release_reservation(late)
    assert await codes.reserve("shop", 0, seconds=MINUTE) is None

    code = await codes.finish(taken, "picture.png")
    assert await codes.finish(late, "picture.png") is None
    await codes.release_reservation(taken)
    assert await all_ready(codes) == [code]


async def test_a_number_with_a_code_is_not_reserved(codes: SqlCodeStore, clock: Clock) -> None:
    await drawn(codes, 0)
    clock.time += 10 * MINUTE

    assert await codes.reserve("shop", 0, seconds=MINUTE) is None


async def test_of_many_at_once_one_has_the_number(
    instance: Callable[[], SqlCodeStore], clock: Clock
) -> None:
    instances = [instance() for _ in range(4)]

    async def race() -> list[CodeReservation]:
        tries = [
            one.reserve("shop", number, seconds=MINUTE) for number in range(10) for one in instances
        ]
        return [one for one in await asyncio.gather(*tries) if one is not None]

    first = await race()
    clock.time += MINUTE
    taken_over = await race()
    for one in taken_over:
        await instances[0].finish(one, "picture.png")
    await instances[0].retire(await all_ready(instances[0]))
    anew = await race()

    for winners, drawing in ((first, 0), (taken_over, 0), (anew, 1)):
        assert Counter(one.number for one in winners) == dict.fromkeys(range(10), 1)
        assert {one.drawing for one in winners} == {drawing}
    assert {one.scene for one in first} == {one.scene for one in taken_over}


async def test_a_retired_number_is_drawn_anew(codes: SqlCodeStore, clock: Clock) -> None:
    old, other = await drawn(codes, 0), await drawn(codes, 1)
    clock.time += 5

    await codes.retire([old])

    assert await all_ready(codes) == [other]
    assert await codes.missing("shop", 2) == [0]
    new = await drawn(codes, 0)
    assert (new.drawing, new.drawn_at) == (1, clock())
    assert new.scene != old.scene


async def test_retiring_what_has_retired_changes_nothing(codes: SqlCodeStore) -> None:
    old = await drawn(codes, 0)
    await codes.retire([old])
    new = await drawn(codes, 0)

    await codes.retire([old])

    assert await all_ready(codes) == [new]


async def test_a_number_that_is_being_drawn_is_not_retired(codes: SqlCodeStore) -> None:
    begun = await reserved(codes, 0)
    unready = CodeRecord(
        app="shop", number=0, drawing=0, scene=begun.scene, picture="p.png", drawn_at=0.0
    )

    await codes.retire([unready])

    assert await codes.finish(begun, "picture.png") is not None


async def test_pictures_of_retired_codes_are_left_over_until_they_are_gone(
    codes: SqlCodeStore,
) -> None:
    one, two = await drawn(codes, 0), await drawn(codes, 1)
    assert await codes.retired_with_picture("shop") == []

    await codes.retire([one, two])
    assert await codes.retired_with_picture("shop") == [one, two]
    assert await codes.retired_with_picture("other") == []

    await codes.forget_pictures([one])
    assert await codes.retired_with_picture("shop") == [two]


async def test_what_has_changed_since_is_found_and_what_is_old(
    codes: SqlCodeStore, clock: Clock
) -> None:
    first, second, third = [await drawn(codes, number) for number in range(3)]
    await codes.retire([first])
    clock.time += 10
    await codes.retire([CodeKey("shop", 1, 0)])
    again = await drawn(codes, 0)

    assert await codes.count("shop") == 2
    assert [code async for some in codes.ready("shop", since=clock()) for code in some] == [again]
    assert [some async for some in codes.retired("shop")] == [{0: 0, 1: 0}]
    assert [some async for some in codes.retired("shop", since=clock())] == [{1: 0}]
    assert await codes.drawn_before("shop", before=clock(), limit=5) == [third]
    assert await codes.drawn_before("shop", before=clock() + 1, limit=1) == [third]
    assert await codes.retired_with_picture("shop", before=clock()) == [first]
    assert await codes.retired_with_picture("shop") == [first, second]


async def test_ready_codes_come_by_number_some_at_a_time(
    codes: SqlCodeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codes_file, "BATCH_SIZE", 3)
    all_of_them = [await drawn(codes, number) for number in (4, 0, 7, 2, 3, 1, 6)]

    batches = [some async for some in codes.ready("shop")]

    assert [len(some) for some in batches] == [3, 3, 1]
    assert [code for some in batches for code in some] == sorted(
        all_of_them, key=lambda code: code.number
    )
    await codes.retire(all_of_them)
    assert await codes.missing("shop", 8) == list(range(8))


async def test_codes_are_counted_by_app_and_state(codes: SqlCodeStore, clock: Clock) -> None:
    assert await codes.counts() == []
    first = await drawn(codes, 0)
    clock.time += 5
    second, third = await drawn(codes, 1), await drawn(codes, 2)
    await reserved(codes, 3)
    await codes.retire([second, third])
    await codes.forget_pictures([third])
    await reserved(codes, 0, "other")

    assert await codes.counts() == [
        CodeCounts("other", ready=0, reserved=1, retired=0, leftover=0, oldest=None),
        CodeCounts("shop", ready=1, reserved=1, retired=2, leftover=1, oldest=first.drawn_at),
    ]


async def test_a_scene_stands_in_one_row_alone(codes: SqlCodeStore, records_url: str) -> None:
    await drawn(codes, 0)
    copied = sa.select(
        sa.literal("other"), t.codes.c.number, t.codes.c.drawing, t.codes.c.scene, sa.literal(0)
    )
    columns = ["app", "number", "drawing", "scene", "reserved_until"]
    database = Database(records_url)

    with pytest.raises(sa.exc.IntegrityError):
        async with database.write_transaction() as connection:
            await connection.execute(sa.insert(t.codes).from_select(columns, copied))
    await database.close()


async def test_a_database_that_is_down_is_said_to_be(
    frail_postgres: PostgresServer, postgres_template: str, clock: Clock
) -> None:
    async with connected(frail_postgres.new_database(postgres_template)) as database:
        codes = SqlCodeStore(database, clock=clock)
        begun = await reserved(codes, 0)
        frail_postgres.stop()

        for act in (
            codes.missing("shop", 1),
            codes.reserve("shop", 1, seconds=MINUTE),
            codes.finish(begun, "picture.png"),
            codes.release_reservation(begun),
            codes.counts(),
            codes.retired_with_picture("shop"),
            all_ready(codes),
        ):
            with pytest.raises(RecordsUnavailable):
                await act

        frail_postgres.revive()
        assert await codes.finish(begun, "picture.png") is not None
