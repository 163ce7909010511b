"""Tests of the audit log: each finished login is stored, and no login waits for that."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing

import pytest
import sqlalchemy as sa

from broker.identity.model import Identity, Phone
from broker.infrastructure.observability.outage import OutageLog
from broker.login.errors import LoginExpired
from broker.login.model import Browser, State
from broker.records import audit_log as trail_module
from broker.records import tables
from broker.records.audit_log import AUDIT_DROPPED, QUEUE_MAX, SqlAuditLog
from broker.records.database import Database
from broker.records.migrations import HEAD, REVISIONS, VERSION_TABLE
from broker.records.migrations import upgrade as upgrade_all
from broker.records.store import open_records
from tests.support.builders import (
    ALICE,
    FIREFOX,
    Clock,
    LoginMethods,
    RecordingAuditLog,
    StartBroker,
    a_login,
)
from tests.support.clients import PhoneClient, PythonBrowser
from tests.support.servers.postgres import PostgresServer
from tests.support.waiting import eventually

DENIED = {"state": State.DENIED, "phone": ALICE}


@pytest.fixture
async def database(records_url: str) -> AsyncIterator[Database]:
    database = Database(records_url)
    yield database
    await database.close()


@pytest.fixture
def sql_trail(database: Database, clock: Clock) -> SqlAuditLog:
    return SqlAuditLog(database, lifetime=3600, clock=clock)


async def rows(database: Database) -> list[dict[str, object]]:
    async with database.read_connection() as connection:
        found = await connection.execute(sa.select(tables.ended_logins).order_by("login_id"))
        return [dict(row) for row in found.mappings()]


def dropped() -> float:
    return AUDIT_DROPPED._value.get()


# --- stored entries


async def test_finished_login_is_stored_with_all_fields(
    sql_trail: SqlAuditLog, database: Database, clock: Clock
) -> None:
    login = a_login(clock, state=State.REDEEMED, phone=ALICE, subject="user-1", instance="one")
    sql_trail.record(login, now=clock() + 7)

    await sql_trail.store_queued()

    assert await rows(database) == [
        {
            "login_id": login.id,
            "app": "shop",
            "app_incarnation": None,
            "state": "redeemed",
            "provider": "pretend",
            "openid": "alice",
            "subject": "user-1",
            "ip": FIREFOX.ip,
            "user_agent": FIREFOX.user_agent,
            "began_at": clock(),
            "ended_at": clock() + 7,
            "instance": "one",
            "phone_ip": None,
            "reason": None,
            "reported_at": None,
            "reused_at": None,
            **dict.fromkeys(("kind", "actor", "target", "hash", "seq")),
        }
    ]


async def test_login_without_scan_has_no_user(
    sql_trail: SqlAuditLog, database: Database, clock: Clock
) -> None:
    sql_trail.record(a_login(clock, state=State.EXPIRED), now=clock() + 500)

    await sql_trail.store_queued()

    [row] = await rows(database)
    assert (row["provider"], row["openid"], row["subject"]) == (None, None, None)
    assert row["ended_at"] == clock() + 120, "the end of its lifetime, not the time of the notice"


async def test_login_recorded_twice_is_stored_once(
    sql_trail: SqlAuditLog, database: Database, clock: Clock
) -> None:
    other = SqlAuditLog(database, lifetime=3600, clock=clock)
    for audit_log in (sql_trail, sql_trail, other):
        audit_log.record(a_login(clock, **DENIED), now=clock())

    await asyncio.gather(sql_trail.store_queued(), other.store_queued())

    assert len(await rows(database)) == 1


async def test_row_queued_during_a_write_is_written(
    sql_trail: SqlAuditLog, database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trail_module, "FLUSH_INTERVAL", 0.01)
    sql_trail.record(a_login(clock, id="first", **DENIED), now=clock())
    write_reuses = sql_trail._write_reuses

    async def write_while_another_login_ends() -> None:
        await write_reuses()
        monkeypatch.undo()
        sql_trail.record(a_login(clock, id="second", **DENIED), now=clock())

    monkeypatch.setattr(sql_trail, "_write_reuses", write_while_another_login_ends)
    task = asyncio.create_task(sql_trail.write_forever())

    async def are_stored() -> bool:
        return len(await rows(database)) == 2

    await eventually(are_stored)
    task.cancel()


async def test_unusual_text_does_not_fail_its_batch(
    sql_trail: SqlAuditLog, database: Database, clock: Clock
) -> None:
    unusual = Phone("shop", Identity("pretend", "\ud800\0" + "界" * 300))
    browser = Browser("unknown", "\0" + "x" * 300)
    sql_trail.record(
        a_login(clock, state=State.DENIED, phone=unusual, browser=browser), now=clock()
    )
    sql_trail.record(a_login(clock, id="second", **DENIED), now=clock())

    await sql_trail.store_queued()

    assert len(await rows(database)) == 2


async def test_old_entries_are_deleted(
    sql_trail: SqlAuditLog, database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trail_module, "FLUSH_INTERVAL", 0.01)
    sql_trail.record(a_login(clock, id="old", **DENIED), now=clock() - 3601)
    sql_trail.record(a_login(clock, id="young", **DENIED), now=clock() - 3599)

    task = asyncio.create_task(sql_trail.write_forever())
    await eventually(lambda: is_only_end(database, "young"))
    task.cancel()


async def is_only_end(database: Database, login_id: str) -> bool:
    return [row["login_id"] for row in await rows(database)] == [login_id]


async def test_migration_from_the_first_revision_keeps_data(bare_url: str, clock: Clock) -> None:
    database = Database(bare_url)
    async with database.write_transaction() as connection:
        await connection.run_sync(lambda to: upgrade_all(to, REVISIONS[0]))
        await connection.execute(
            sa.insert(tables.apps).values(
                id="site",
                name="A site",
                provider="pretend",
                provider_app_id="",
                origins=["https://a.example"],
                redirect_urls=[],
                code_source="live",
                created_at=1.0,
                changed_at=2.0,
            )
        )
        await connection.execute(
            sa.insert(tables.users).values(id="u", name="Ann", created_at=1.0, changed_at=2.0)
        )
    assert (await database.status()).missing == REVISIONS[1:]

    await database.migrate()

    assert (await database.status()).revision == HEAD
    async with database.read_connection() as connection:
        [app] = (await connection.execute(sa.select(tables.apps))).mappings()
        [user] = (await connection.execute(sa.select(tables.users))).mappings()
        assert await connection.scalar(sa.text(f"SELECT count(*) FROM {VERSION_TABLE}")) == 1
    assert (app["name"], app["origins"]) == ("A site", ["https://a.example"])
    assert (user["name"], user["blocked"]) == ("Ann", False)
    assert await rows(database) == []
    await database.close()


# --- outages


async def test_entries_wait_for_an_unavailable_database(
    stoppable_postgres: PostgresServer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trail_module, "FLUSH_INTERVAL", 0.01)
    monkeypatch.setattr(trail_module, "RETRY_DELAY", 0.05)
    database = Database(stoppable_postgres.new_database())
    await database.migrate()
    stoppable_postgres.stop()
    failures: list[str] = []
    monkeypatch.setattr(OutageLog, "failed", lambda outage, why: failures.append(why))
    trail = SqlAuditLog(database, lifetime=3600, clock=clock)
    task = asyncio.create_task(trail.write_forever())

    trail.record(a_login(clock, **DENIED), now=clock())
    await eventually(lambda: len(failures) > 1)
    stoppable_postgres.start()

    await eventually(lambda: is_only_end(database, a_login(clock).id))
    task.cancel()
    await database.close()


@pytest.mark.parametrize("records_url", ["sqlite"], indirect=True)
async def test_dropped_entries_are_counted(
    sql_trail: SqlAuditLog, records_url: str, clock: Clock
) -> None:
    before = dropped()
    for number in range(QUEUE_MAX + 3):
        sql_trail.record(a_login(clock, id=f"login-{number}", **DENIED), now=clock())
    assert dropped() == before + 3

    with closing(sqlite3.connect(records_url.partition(":///")[2])) as other:
        other.execute("BEGIN EXCLUSIVE")
        await sql_trail.flush()

    assert dropped() == before + 3 + QUEUE_MAX


@pytest.mark.parametrize("records_url", ["sqlite"], indirect=True)
async def test_repeated_end_uses_memory_once(sql_trail: SqlAuditLog, clock: Clock) -> None:
    before = dropped()

    for _ in range(QUEUE_MAX + 1):
        sql_trail.record(a_login(clock, **DENIED), now=clock())

    assert dropped() == before


# --- recorded logins


async def test_each_final_state_is_recorded_once(
    make_login_service: Callable[..., LoginMethods], clock: Clock, trail: RecordingAuditLog
) -> None:
    login_service = make_login_service()
    ids = {}
    for end in ("redeemed", "denied", "cancelled", "expired", "open"):
        new_login = await login_service.begin("shop", FIREFOX, has_socket=True)
        ids[end] = new_login.login.id
        credentials = {"login_id": new_login.login.id, "secret": new_login.secret, "app": "shop"}
        await login_service.scan(new_login.login.scene, ALICE)
        assert trail.ends == [one for one in trail.ends if one[0] != new_login.login.id]
        if end == "redeemed":
            await login_service.confirm(new_login.login.id, ALICE)
            await login_service.redeem(**credentials)
            await login_service.redeem(**credentials)
        elif end == "denied":
            await login_service.deny(new_login.login.id, ALICE)
            await login_service.deny(new_login.login.id, ALICE)
        elif end == "cancelled":
            await login_service.cancel(**credentials)
        elif end == "expired":
            clock.time += 121
            with pytest.raises(LoginExpired):
                await login_service.redeem(**credentials)

    assert [(login_id, state.value) for login_id, state, _ in trail.ends] == [
        (ids[end], end) for end in ("redeemed", "denied", "cancelled", "expired")
    ]


async def test_login_that_expires_is_recorded(start_broker: StartBroker, records_file: str) -> None:
    broker = await start_broker(login_lifetime=1)
    browser = PythonBrowser(["websocket"])
    await browser.connect(broker.url)
    new_login = await browser.emit("begin", {})

    assert await browser.push() == ("login-expired", {"login_id": new_login["login_id"]})

    def stored_ends() -> list[tuple[str, str, str]]:
        with closing(sqlite3.connect(records_file)) as database:
            query = "SELECT login_id, state, ip FROM ended_logins"
            return database.execute(query).fetchall()

    await eventually(stored_ends)
    assert stored_ends() == [(new_login["login_id"], "expired", "127.0.0.1")]
    await browser.close()


@pytest.mark.parametrize("fault", [PostgresServer.stop, PostgresServer.pause])
async def test_login_does_not_wait_for_a_failing_database(
    start_broker: StartBroker,
    stoppable_postgres: PostgresServer,
    fault: Callable[[PostgresServer], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    defaults = Database.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "statement_timeout", 3600.0)
    broker = await start_broker(records_url=stoppable_postgres.new_database())
    fault(stoppable_postgres)
    browser = PythonBrowser(["websocket"])

    await browser.connect(broker.url)
    async with asyncio.timeout(30), PhoneClient(broker.url) as phone:
        new_login = await browser.emit("begin", {})
        await phone.post("scan", {"scene": new_login["scene"]})
        await phone.post("confirm", {"login_id": new_login["login_id"]})
        credentials = {"login_id": new_login["login_id"], "secret": new_login["secret"]}
        assert "access_token" in await browser.emit("redeem", credentials)

    await browser.close()


async def test_broker_stops_although_its_database_hangs(
    stoppable_postgres: PostgresServer, clock: Clock
) -> None:
    records = open_records(
        stoppable_postgres.new_database(),
        load_seal_keys=lambda: (b"k" * 32,),
        providers=("pretend",),
        reserved_ids=(),
        clock=clock,
        trail_lifetime=3600,
    )
    await records.open()
    stoppable_postgres.pause()
    records.audit_log.record(a_login(clock, **DENIED), now=clock())

    async with asyncio.timeout(30):
        await records.close()


# --- reports


async def test_confirmed_login_is_found_and_reported_once(
    sql_trail: SqlAuditLog, clock: Clock
) -> None:
    login = a_login(clock, state=State.REDEEMED, phone=ALICE, subject="user-1")
    sql_trail.record(login, now=clock())

    found = await sql_trail.find(login.id)
    first = await sql_trail.report(login.id, now=clock() + 5)
    second = await sql_trail.report(login.id, now=clock() + 9)

    assert found is not None
    assert (found.openid, found.subject) == (ALICE.identity.id, "user-1")
    assert (found.app, found.reported_at) == (login.app, None)
    assert (first, second) == (True, False)
    reported = await sql_trail.find(login.id)
    assert reported is not None
    assert reported.reported_at == clock() + 5


@pytest.mark.parametrize("records_url", ["sqlite"], indirect=True)
async def test_repeated_report_waits_for_no_other_write(
    sql_trail: SqlAuditLog, records_url: str, clock: Clock
) -> None:
    login = a_login(clock, state=State.REDEEMED, phone=ALICE, subject="user-1")
    sql_trail.record(login, now=clock())
    await sql_trail.store_queued()
    await sql_trail.report(login.id, now=clock())

    with closing(sqlite3.connect(records_url.partition(":///")[2])) as other:
        other.execute("BEGIN IMMEDIATE")  # no other connection can write

        assert await sql_trail.report(login.id, now=clock()) is False


async def test_login_that_ended_unconfirmed_cannot_be_reported(
    sql_trail: SqlAuditLog, clock: Clock
) -> None:
    sql_trail.record(a_login(clock, id="denied", **DENIED), now=clock())

    assert await sql_trail.find("denied") is None
    assert await sql_trail.find("unknown") is None
    assert await sql_trail.report("unknown", now=clock()) is False


async def test_first_reuse_is_stored_with_its_login(
    sql_trail: SqlAuditLog, database: Database, clock: Clock
) -> None:
    login = a_login(clock, state=State.REDEEMED, phone=ALICE, subject="user-1")
    sql_trail.record(login, now=clock())
    sql_trail.record_reuse(
        login.id, app="shop", incarnation="first", subject="user-1", now=clock() + 5
    )
    await sql_trail.store_queued()

    sql_trail.record_reuse(
        login.id, app="shop", incarnation="first", subject="user-1", now=clock() + 9
    )
    await sql_trail.store_queued()

    [row, entry] = await rows(database)
    assert row["reused_at"] == clock() + 5
    assert (entry["kind"], entry["state"], entry["target"]) == ("refresh", "reused", login.id)
    assert entry["app_incarnation"] == "first"
    assert (entry["subject"], entry["ended_at"]) == ("user-1", clock() + 5)


async def test_address_of_phone_and_reason_are_stored(
    sql_trail: SqlAuditLog, database: Database, clock: Clock
) -> None:
    login = a_login(clock, **DENIED, phone_ip="198.51.100.7", reason="match")
    sql_trail.record(login, now=clock())

    await sql_trail.store_queued()

    [row] = await rows(database)
    assert (row["phone_ip"], row["reason"], row["reported_at"]) == ("198.51.100.7", "match", None)
