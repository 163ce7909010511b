"""Records of files and quotas of their owners, in each kind of database."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from broker.files.errors import QuotaExceeded
from broker.files.model import ExpiredFile, Owner, Reservation, StoredFile, new_file_id
from broker.records.database import Database
from broker.records.files import SqlFileRecords

ALICE = Owner("red", "a" * 32, "alice", "user-alice")
BOB = Owner("red", "b" * 32, "bob")

NOW = 1_000.0


@pytest.fixture
def records(database: Database) -> SqlFileRecords:
    return SqlFileRecords(database)


def a_file(id: str = "", owner: Owner = ALICE, **changes: object) -> StoredFile:
    file_id = id.ljust(22, "-") if id else new_file_id()
    file = StoredFile(
        id=file_id,
        owner=owner,
        key=f"red/2026/11/{file_id}",
        size=100,
        media_type="image/png",
        sha256="0" * 64,
        purpose="avatar",
        name="照片.png",
        created_at=NOW,
        expires_at=NOW + 500,
    )
    return replace(file, **changes)  # type: ignore[arg-type]


async def reserve(
    records: SqlFileRecords, size: int, owner: Owner = ALICE, now: float = NOW
) -> str:
    reservation = Reservation(new_file_id(), owner, size, now + 60)
    await records.reserve(reservation, quota=1_000, now=now)
    return reservation.file_id


async def test_added_file_is_found_until_its_removal(records: SqlFileRecords) -> None:
    file = a_file()
    assert await records.get(file.id, now=NOW) is None

    await records.add(file)
    assert await records.get(file.id, now=NOW) == file

    await records.remove(file.id)
    await records.remove(file.id)
    assert await records.get(file.id, now=NOW) is None


async def test_expired_file_is_unknown(records: SqlFileRecords) -> None:
    file = a_file()
    await records.add(file)

    assert await records.get(file.id, now=NOW + 501) is None
    assert await records.find("red", None, after="", limit=9, now=NOW + 501) == []
    assert await records.expired(now=NOW + 501, limit=9) == [ExpiredFile(file.id, file.key)]


async def test_files_are_listed_by_id(records: SqlFileRecords) -> None:
    files = [a_file("1"), a_file("2", BOB), a_file("3"), a_file("4", Owner("blue", "a" * 32, "x"))]
    for file in files:
        await records.add(file)

    all_of_red = await records.find("red", None, after="", limit=2, now=NOW)
    rest = await records.find("red", None, after=files[1].id, limit=2, now=NOW)
    of_bob = await records.find("red", BOB.person, after="", limit=9, now=NOW)

    assert (all_of_red, rest, of_bob) == (files[:2], [files[2]], [files[1]])


async def test_reservation_is_not_a_file(records: SqlFileRecords) -> None:
    file_id = await reserve(records, 100)

    assert await records.get(file_id, now=NOW) is None
    assert await records.find("red", None, after="", limit=9, now=NOW) == []


async def test_file_takes_the_place_of_its_reservation(records: SqlFileRecords) -> None:
    file_id = await reserve(records, 1_000)

    await records.add(a_file(id=file_id, size=10))

    await reserve(records, 990)
    with pytest.raises(QuotaExceeded):
        await reserve(records, 1)


async def test_removed_reservation_frees_its_quota(records: SqlFileRecords) -> None:
    await records.remove(await reserve(records, 1_000))

    await reserve(records, 1_000)


async def test_expired_reservation_no_longer_counts(records: SqlFileRecords) -> None:
    await reserve(records, 1_000)

    await reserve(records, 1_000, now=NOW + 61)


async def test_quota_is_that_of_one_owner(records: SqlFileRecords) -> None:
    await reserve(records, 1_000)

    await reserve(records, 1_000, BOB)


async def test_simultaneous_reservations_stay_within_the_quota(records: SqlFileRecords) -> None:
    results = await asyncio.gather(
        *(reserve(records, 400) for _ in range(5)), return_exceptions=True
    )

    assert [type(result) for result in results].count(QuotaExceeded) == 3


async def test_unknown_keys_have_no_record(records: SqlFileRecords) -> None:
    file = a_file()
    await records.add(file)
    await reserve(records, 10)

    assert await records.unknown_keys([file.key, "other"]) == {"other"}
