"""Conformance of code stores with RemovedAppCodes."""

from __future__ import annotations

from broker.apps.model import App
from broker.records.database import Database
from broker.records.pool_codes import SqlCodeStore
from tests.support.builders import Clock
from tests.support.pool import RESERVATION, draw, ready_codes, reserve
from tests.support.records import record_app

RECORDED = App(id="recorded", name="Recorded", origins=frozenset(), incarnation="1" * 16)


async def test_removed_apps_are_neither_recorded_nor_in_settings(
    codes: SqlCodeStore, database: Database
) -> None:
    await record_app(database, RECORDED)
    for app in (RECORDED.key, "default", "removed"):
        await draw(codes, 0, app)

    assert await codes.removed_apps(["default"]) == ["removed"]


async def test_retire_all_retires_the_codes_of_one_app(codes: SqlCodeStore) -> None:
    await draw(codes, 0)
    await draw(codes, 1)
    other = await draw(codes, 0, "other")

    await codes.retire_all("shop")

    assert await ready_codes(codes) == []
    assert await ready_codes(codes, "other") == [other]


async def test_has_pictures_is_true_until_the_deletion(codes: SqlCodeStore, clock: Clock) -> None:
    code = await draw(codes, 0)
    await codes.retire([code])
    clock.time += RESERVATION
    before = await codes.has_pictures("shop")

    await codes.forget_pictures([code])

    assert before
    assert not await codes.has_pictures("shop")


async def test_has_pictures_is_true_during_a_reservation(codes: SqlCodeStore, clock: Clock) -> None:
    await reserve(codes, 0)
    before = await codes.has_pictures("shop")

    clock.time += RESERVATION

    assert before
    assert not await codes.has_pictures("shop")


async def test_codes_with_picture_or_reservation_are_not_deleted(
    codes: SqlCodeStore, clock: Clock
) -> None:
    without_picture, with_picture = await draw(codes, 0), await draw(codes, 1)
    clock.time += RESERVATION
    await reserve(codes, 2)
    await codes.retire([without_picture, with_picture])
    await codes.forget_pictures([without_picture])

    await codes.forget("shop")

    [counts] = await codes.counts()
    assert (counts.retired, counts.leftover, counts.reserved) == (1, 1, 1)
