"""Numbers, hash chain and export of the audit log, in each kind of database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest
import sqlalchemy as sa
import structlog

from broker.audit.model import AuditEntry, AuditKind, AuditQuery, ExportedEntry
from broker.audit.numbering import NumberingJob
from broker.login.model import State
from broker.records import tables as t
from broker.records.audit_export import SqlAuditExport, delete_before, new_rows
from broker.records.audit_log import SqlAuditLog
from broker.records.database import Database
from broker.records.errors import RecordsUnavailable
from broker.state.memory.leader_leases import MemoryLeaderLeases
from tests.support.builders import ALICE, Clock, a_login


@pytest.fixture
def trail(database: Database, clock: Clock) -> SqlAuditLog:
    return SqlAuditLog(database, lifetime=3600, clock=clock, instance="one")


@pytest.fixture
def export(database: Database) -> SqlAuditExport:
    return SqlAuditExport(database, chains=True)


Add = Callable[..., Awaitable[None]]


@pytest.fixture
def add(trail: SqlAuditLog, clock: Clock) -> Add:
    """Store logins that have ended, with these ids."""

    async def add_logins(*ids: str, at: float | None = None) -> None:
        ended_at = clock() if at is None else at
        for login_id in ids:
            login = a_login(clock, id=login_id, state=State.DENIED, phone=ALICE, subject="user-1")
            trail.record(login, now=ended_at)
        await trail.store_queued()

    return add_logins


async def all_entries(export: SqlAuditExport, *, limit: int = 2) -> Sequence[ExportedEntry]:
    return [entry async for entry in replay(export, limit=limit)]


async def replay(export: SqlAuditExport, *, limit: int) -> AsyncIterator[ExportedEntry]:
    last = 0
    while page := await export.page(last, limit):
        for entry in page:
            yield entry
        last = int(str(page[-1]["seq"]))


async def change(database: Database, statement: sa.Executable) -> None:
    async with database.write_transaction() as connection:
        await connection.execute(statement)


# --- numbers


async def test_numbers_continue_without_gaps(add: Add, export: SqlAuditExport) -> None:
    await add("a", "b", "c")
    assert await export.number(2) == 2
    assert await export.number(2) == 1
    await add("d")
    assert await export.number(2) == 1
    assert await export.number(2) == 0

    found = await all_entries(export)

    assert [(entry["seq"], entry["id"]) for entry in found] == [
        (1, "a"),
        (2, "b"),
        (3, "c"),
        (4, "d"),
    ]


async def test_entry_without_number_is_not_exported(add: Add, export: SqlAuditExport) -> None:
    await add("a")
    await export.number(10)
    await add("b")

    assert [entry["id"] for entry in await all_entries(export)] == ["a"]


async def test_late_commit_gets_a_later_number(
    add: Add, export: SqlAuditExport, clock: Clock
) -> None:
    await add("early")
    await export.number(10)
    cursor = 1
    await add("late", at=clock() - 100)  # ended before the entry that has a number
    await export.number(10)

    assert [entry["id"] for entry in await export.page(cursor, 10)] == ["late"]


async def test_simultaneous_numbering_gives_each_number_once(
    add: Add, database: Database, export: SqlAuditExport
) -> None:
    await add(*(f"login-{number:02}" for number in range(40)))
    others = [export, *(SqlAuditExport(database, chains=True) for _ in range(3))]

    for _ in range(4):
        await asyncio.gather(*(one.number(4) for one in others))

    found = await all_entries(export, limit=100)
    assert [entry["seq"] for entry in found] == list(range(1, 41))
    assert len({entry["id"] for entry in found}) == 40
    assert (await export.verify()) == (40, None, "")


async def test_failed_numbering_changes_nothing(
    add: Add, export: SqlAuditExport, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add("a", "b")

    async def fail(*arguments: object) -> None:
        raise RecordsUnavailable("the instance has crashed")

    with monkeypatch.context() as patch:
        patch.setattr("broker.records.audit_export._set_mark", fail)
        with pytest.raises(RecordsUnavailable):
            await export.number(10)
    assert await all_entries(export) == []

    await export.number(10)
    assert [entry["seq"] for entry in await all_entries(export)] == [1, 2]
    assert (await export.verify()) == (2, None, "")


async def test_numbering_job_numbers_more_than_a_batch(
    add: Add, export: SqlAuditExport, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.audit.numbering.BATCH", 2)
    await add("a", "b", "c", "d", "e")
    job = NumberingJob(export=export, leader_leases=MemoryLeaderLeases(clock), instance="one")

    await job.run_once()

    assert len(await all_entries(export)) == 5


async def test_numbering_job_logs_the_begin_of_an_outage_once(
    export: SqlAuditExport, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = NumberingJob(export=export, leader_leases=MemoryLeaderLeases(clock), instance="one")

    async def fail(limit: int) -> int:
        raise RecordsUnavailable("statement timeout")

    with monkeypatch.context() as patch, structlog.testing.capture_logs() as lines:
        patch.setattr(export, "number", fail)
        await job.run_once()
        await job.run_once()
        patch.undo()
        await job.run_once()

    assert [(line["event"], line.get("reason")) for line in lines] == [
        ("audit numbering failed", "statement timeout"),
        ("audit numbering recovered", None),
    ]


PLANS = {
    "sqlite": ["EXPLAIN QUERY PLAN"],
    "postgresql": ["SET LOCAL enable_seqscan = off", "SET LOCAL enable_sort = off", "EXPLAIN"],
}
"""Statements before the explained one. PostgreSQL would read and sort a small table."""


async def test_rows_to_number_are_read_in_index_order(database: Database) -> None:
    *settings, explain = PLANS[database.dialect]
    statement = str(new_rows(500).compile(compile_kwargs={"literal_binds": True}))

    async with database.write_transaction() as connection:
        for setting in settings:
            await connection.execute(sa.text(setting))
        plan = str((await connection.execute(sa.text(f"{explain} {statement}"))).all())

    assert "ended_logins_new" in plan
    assert "sort" not in plan.lower()
    assert "b-tree" not in plan.lower()


# --- entries


async def test_entries_of_all_kinds_are_exported(
    add: Add, trail: SqlAuditLog, export: SqlAuditExport, clock: Clock
) -> None:
    await add("login")
    act = AuditEntry(
        AuditKind.ADMIN, "done", clock() + 1, actor="token", target="shop", reason="DELETE /apps"
    )
    trail.add(act)
    for delay in (2, 3):
        trail.record_reuse(
            "login", app="shop", incarnation="first", subject="user-1", now=clock() + delay
        )
    await trail.store_queued()
    await trail.report("login", now=clock() + 4)
    await export.number(10)

    found = await all_entries(export)

    assert [(entry["kind"], entry["state"], entry.get("target")) for entry in found] == [
        ("login", "denied", None),
        ("admin", "done", "shop"),
        ("refresh", "reused", "login"),
        ("login", "reported", "login"),
    ]
    assert (found[1]["actor"], found[1]["instance"]) == ("token", "one")
    assert found[3]["subject"] == "user-1"
    assert (await export.verify()) == (4, None, "")


async def test_search_filters_and_pages_backwards(
    add: Add, trail: SqlAuditLog, export: SqlAuditExport, clock: Clock
) -> None:
    await add("a", "b", "c")
    trail.add(AuditEntry(AuditKind.SIGNIN, "began", clock() + 9, app="wiki", subject="user-2"))
    await trail.store_queued()
    await export.number(10)

    async def found(limit: int = 10, **query: object) -> list[object]:
        return [
            entry["seq"]
            for entry in await export.search(AuditQuery(**query), limit)  # type: ignore[arg-type]
        ]

    assert await found() == [4, 3, 2, 1]
    assert await found(2, before=4) == [3, 2]
    assert await found(app="wiki") == [4]
    assert await found(subject="user-1", state="denied", kind="login") == [3, 2, 1]
    assert await found(kind="signin") == [4]
    assert await found(since=clock() + 5) == [4]
    assert await found(kind="admin") == []


# --- hash chain


SECOND = t.ended_logins.c.seq == 2

ATTACKS: dict[str, tuple[Sequence[sa.Executable], tuple[int, int | None, str]]] = {
    "edit": (
        [sa.update(t.ended_logins).where(SECOND).values(ip="203.0.113.9")],
        (1, 2, "the entry was changed"),
    ),
    "deletion": (
        [sa.delete(t.ended_logins).where(SECOND)],
        (1, 2, "the entry is missing"),
    ),
    "deletion of the end": (
        [sa.delete(t.ended_logins).where(t.ended_logins.c.seq == 4)],
        (3, 4, "the entry is missing"),
    ),
    "deletion of the begin": (
        [sa.delete(t.ended_logins).where(t.ended_logins.c.seq == 1)],
        (0, 1, "the entry is missing"),
    ),
    "swap": (
        [
            sa.update(t.ended_logins).where(SECOND).values(seq=99),
            sa.update(t.ended_logins).where(t.ended_logins.c.seq == 3).values(seq=2),
            sa.update(t.ended_logins).where(t.ended_logins.c.seq == 99).values(seq=3),
        ],
        (1, 2, "the entry was changed"),
    ),
    "hash removed": (
        [sa.update(t.ended_logins).where(SECOND).values(hash=None)],
        (1, 2, "the entry was changed"),
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_chain_breaks_at_the_first_change(
    add: Add, database: Database, export: SqlAuditExport, attack: str
) -> None:
    statements, expected = ATTACKS[attack]
    await add("a", "b", "c", "d")
    await export.number(10)
    assert (await export.verify()) == (4, None, "")

    for statement in statements:
        await change(database, statement)

    assert (await export.verify()) == expected


async def test_chain_continues_from_anchor_of_deleted_entries(
    add: Add, database: Database, export: SqlAuditExport, clock: Clock
) -> None:
    await add("a", "b", at=clock() - 50)
    await add("c", "d")
    await export.number(10)

    async with database.write_transaction() as connection:
        await delete_before(connection, clock() - 10)
    assert (await export.verify()) == (2, None, "")

    await change(database, sa.delete(t.ended_logins).where(t.ended_logins.c.seq == 3))
    assert (await export.verify()) == (0, 3, "the entry is missing")


async def test_chain_continues_after_all_entries_are_deleted(
    add: Add, database: Database, export: SqlAuditExport, clock: Clock
) -> None:
    await add("a", "b", at=clock() - 50)
    await export.number(10)
    async with database.write_transaction() as connection:
        await delete_before(connection, clock() - 10)
    assert (await export.verify()) == (0, None, "")

    await add("c")
    await export.number(10)

    assert [entry["seq"] for entry in await all_entries(export)] == [3]
    assert (await export.verify()) == (1, None, "")


async def test_chain_begins_with_the_setting(
    add: Add, database: Database, export: SqlAuditExport
) -> None:
    await add("a", "b")
    await SqlAuditExport(database, chains=False).number(10)
    assert (await export.verify()) == (0, None, "")

    await add("c", "d")
    await export.number(10)

    assert (await export.verify()) == (2, None, "")
    assert [("hash" in entry) for entry in await all_entries(export)] == [False, False, True, True]


async def test_old_entry_before_a_young_one_is_kept(
    add: Add, database: Database, export: SqlAuditExport, clock: Clock
) -> None:
    await add("young")
    await export.number(10)
    await add("late", at=clock() - 50)
    await export.number(10)

    async with database.write_transaction() as connection:
        await delete_before(connection, clock() - 10)

    assert [entry["id"] for entry in await all_entries(export)] == ["young", "late"]


# --- cursor of the push


async def test_cursor_of_the_push_never_moves_back(export: SqlAuditExport) -> None:
    assert await export.pushed() == 0

    await export.mark_pushed(7)
    await export.mark_pushed(3)

    assert await export.pushed() == 7
