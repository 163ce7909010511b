"""Tests of blocked and removed users over each database: each instance ends each of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from broker.errors import Unavailable
from broker.oidc.ended_subjects import EndedSubjectWatch
from broker.records.database import Database
from broker.records.ended_subjects import ENDED_SUBJECT_TTL, SqlEndedSubjectLog
from broker.records.user_admin import SqlUserAdmin
from tests.support.builders import Clock


@pytest.fixture
async def database(records_url: str) -> AsyncIterator[Database]:
    database = Database(records_url)
    yield database
    await database.close()


@pytest.fixture
async def users(database: Database, clock: Clock) -> SqlUserAdmin:
    admin = SqlUserAdmin(database, providers=("pretend",), clock=clock)
    for user_id in ("alice", "bob"):
        await admin.add({"id": user_id})
    return admin


class Instance:
    """An instance that records the subjects that it ends."""

    def __init__(self, database: Database) -> None:
        self.ended: list[str] = []
        self.is_down = False
        self.watch = EndedSubjectWatch(SqlEndedSubjectLog(database), self._end)

    async def _end(self, subject: str) -> None:
        if self.is_down:
            raise Unavailable
        self.ended.append(subject)


async def test_blocked_and_removed_users_are_ended_once(
    database: Database, users: SqlUserAdmin
) -> None:
    instance = Instance(database)
    await instance.watch.look()
    await users.update("alice", {"blocked": True})
    await users.remove("bob")

    await instance.watch.look()
    await instance.watch.look()

    assert instance.ended == ["alice", "bob"]


async def test_each_instance_ends_every_subject(database: Database, users: SqlUserAdmin) -> None:
    instances = [Instance(database), Instance(database)]
    for instance in instances:
        await instance.watch.look()
    await users.update("alice", {"blocked": True})

    for instance in instances:
        await instance.watch.look()

    assert [instance.ended for instance in instances] == [["alice"], ["alice"]]


async def test_instance_that_starts_later_ends_the_subject(
    database: Database, users: SqlUserAdmin
) -> None:
    await users.update("alice", {"blocked": True})

    instance = Instance(database)
    await instance.watch.look()

    assert instance.ended == ["alice"]


async def test_unblocked_user_keeps_new_sessions_after_restart(
    database: Database, users: SqlUserAdmin
) -> None:
    await users.update("alice", {"blocked": True})
    await users.update("alice", {"blocked": False})
    await users.remove("bob")
    await users.add({"id": "bob"})

    instance = Instance(database)
    await instance.watch.look()
    await instance.watch.look()

    assert instance.ended == []


async def test_failed_end_is_repeated(database: Database, users: SqlUserAdmin) -> None:
    instance = Instance(database)
    await users.update("alice", {"blocked": True})
    instance.is_down = True
    with pytest.raises(Unavailable):
        await instance.watch.look()
    instance.is_down = False

    await instance.watch.look()

    assert instance.ended == ["alice"]


async def test_other_changes_end_no_subject(database: Database, users: SqlUserAdmin) -> None:
    instance = Instance(database)
    await users.update("alice", {"name": "Alice"})
    await users.update("alice", {"blocked": False})

    await instance.watch.look()

    assert instance.ended == []


async def test_simultaneous_blocks_are_all_ended(database: Database, users: SqlUserAdmin) -> None:
    instance = Instance(database)
    await asyncio.gather(*(users.update(one, {"blocked": True}) for one in ("alice", "bob")))

    await instance.watch.look()

    assert sorted(instance.ended) == ["alice", "bob"]


async def test_old_rows_are_deleted(database: Database, users: SqlUserAdmin, clock: Clock) -> None:
    await users.update("alice", {"blocked": True})
    clock.time += ENDED_SUBJECT_TTL + 1
    await users.update("bob", {"blocked": True})

    found = await SqlEndedSubjectLog(database).after(0)

    assert found.subjects == ["bob"]
