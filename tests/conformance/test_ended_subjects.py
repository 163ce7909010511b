"""Tests of blocked and removed users over each database: each instance ends each of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import update

from broker.errors import Unavailable
from broker.oidc.ended_subjects import EndedSubjectWatch
from broker.records import tables as t
from broker.records.change_numbers import ChangeNumbers
from broker.records.database import Database
from broker.records.ended_subjects import ENDED_SUBJECT_TTL, SqlEndedSubjectLog
from broker.records.user_admin import SqlUserAdmin
from tests.support.builders import Clock
from tests.support.waiting import eventually


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
        self._database = database
        self.changes = ChangeNumbers()
        self.ended: list[str] = []
        self.is_down = False
        self.failures = 0
        self.log = SqlEndedSubjectLog(database, self.changes)
        self.watch = EndedSubjectWatch(self.log, self._end)

    async def read_changes(self) -> None:
        """Read the numbers of changes, as the app cache does at an interval."""
        async with self._database.read_connection() as connection:
            await self.changes.read(connection)

    async def _end(self, subject: str) -> None:
        if self.is_down:
            self.failures += 1
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

    found = await SqlEndedSubjectLog(database, ChangeNumbers()).after(0)

    assert found.subjects == ["bob"]


async def is_waiting(task: asyncio.Task[None]) -> bool:
    """Return whether the task still waits after all that can run has run."""
    for _ in range(10):
        await asyncio.sleep(0)
    return not task.done()


@pytest.fixture
async def running(database: Database, users: SqlUserAdmin) -> AsyncIterator[Instance]:
    """An instance whose watch runs."""
    instance = Instance(database)
    task = asyncio.create_task(instance.watch.run())
    yield instance
    task.cancel()


async def test_running_watch_ends_a_subject_after_a_change(
    running: Instance, users: SqlUserAdmin
) -> None:
    await users.update("alice", {"blocked": True})
    await running.read_changes()

    await eventually(lambda: running.ended == ["alice"])


async def test_running_watch_repeats_a_failed_end(
    running: Instance, users: SqlUserAdmin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.oidc.ended_subjects.RETRY_DELAY", 0.01)
    running.is_down = True
    await users.update("alice", {"blocked": True})
    await running.read_changes()
    await eventually(lambda: running.failures > 1)

    running.is_down = False

    await eventually(lambda: running.ended == ["alice"])


async def test_wait_ends_with_a_change_of_users_only(
    database: Database, users: SqlUserAdmin
) -> None:
    instance = Instance(database)
    number = (await instance.log.after(0)).number
    waiting = asyncio.create_task(instance.log.wait(number))
    assert await is_waiting(waiting)

    async with database.write_transaction() as connection:
        await connection.execute(update(t.changes).filter_by(what="apps").values(number=99))
    await instance.read_changes()
    assert await is_waiting(waiting)

    await users.update("alice", {"blocked": True})
    await instance.read_changes()
    await waiting


async def test_number_ahead_of_the_last_round_waits(
    database: Database, users: SqlUserAdmin
) -> None:
    instance = Instance(database)
    await instance.read_changes()
    await users.update("alice", {"blocked": True})
    number = (await instance.log.after(0)).number

    waiting = asyncio.create_task(instance.log.wait(number))
    assert await is_waiting(waiting)
    await instance.read_changes()
    assert await is_waiting(waiting)

    await users.update("bob", {"blocked": True})
    await instance.read_changes()
    await waiting


async def test_number_behind_the_last_round_waits_not(
    database: Database, users: SqlUserAdmin
) -> None:
    instance = Instance(database)
    number = (await instance.log.after(0)).number
    await users.update("alice", {"blocked": True})
    await instance.read_changes()

    await instance.log.wait(number)


async def test_restored_backup_counts_as_a_change(database: Database, users: SqlUserAdmin) -> None:
    instance = Instance(database)
    for one in ("alice", "bob"):
        await users.update(one, {"blocked": True})
    await instance.read_changes()
    number = (await instance.log.after(0)).number
    waiting = asyncio.create_task(instance.log.wait(number))

    async with database.write_transaction() as connection:
        await connection.execute(update(t.changes).filter_by(what="users").values(number=1))
    await instance.read_changes()

    await waiting
