"""Records in PostgreSQL behind a PgBouncer in session and in transaction mode."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import count, cycle, islice

import pytest

from broker.errors import InvalidSettings
from broker.records import urls
from broker.records.database import Database
from broker.records.migrations import HEAD, REVISIONS
from broker.settings import load_settings
from tests.support.app_admin import TOKEN, Admin, post
from tests.support.builders import StartBroker
from tests.support.clients import PhoneClient
from tests.support.servers.postgres import PgBouncer, PostgresServer, running_pgbouncer
from tests.support.waiting import eventually

MODES = {"session": False, "transaction": True}
"""`SCAN_LOGIN_RECORDS_PGBOUNCER` for each mode."""

CALLS = 96


@pytest.fixture(autouse=True)
def _database_may_be_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first connections through PgBouncer take seconds on a busy machine."""
    monkeypatch.setattr("broker.records.engines.CONNECT_TIMEOUT", 60.0)
    monkeypatch.setattr(Database.__init__, "__kwdefaults__", {"statement_timeout": 60.0})


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def bouncer(postgres: PostgresServer, mode: str) -> Iterator[PgBouncer]:
    with running_pgbouncer(postgres, mode) as bouncer:
        yield bouncer


@pytest.fixture
def settings(
    bouncer: PgBouncer, mode: str, postgres: PostgresServer, postgres_template: str
) -> dict[str, object]:
    """Settings of a broker behind PgBouncer, with existing tables."""
    url = bouncer.url(postgres.new_database(postgres_template))
    return {"records_url": url, "records_pgbouncer": MODES[mode], "admin_token": TOKEN}


async def test_no_admin_call_fails_behind_pgbouncer(
    start_broker: StartBroker, settings: dict[str, object]
) -> None:
    brokers = [await start_broker(**settings) for _ in range(2)]

    async def calls(number: int, admin: Admin) -> list[int]:
        name = f"app-{number}"
        return [
            (await admin.ask("POST", "/apps", {"id": name, "name": name})).status,
            (await admin.ask("PATCH", f"/apps/{name}", {"origins": ["https://a.example"]})).status,
            (await admin.ask("GET", f"/apps/{name}")).status,
            (await admin.ask("DELETE", f"/apps/{name}")).status,
        ]

    async with Admin(brokers[0].admin) as first, Admin(brokers[1].admin) as second:
        admins = islice(cycle((first, second)), CALLS // 4)
        answers = await asyncio.gather(*map(calls, count(), admins))
    late = await start_broker(**settings)

    assert answers == [[201, 200, 200, 204]] * (CALLS // 4)
    assert late.admin


async def test_logins_confirm_behind_pgbouncer(
    start_broker: StartBroker, settings: dict[str, object]
) -> None:
    broker = await start_broker("sql", **settings)
    async with Admin(broker.admin) as admin:
        await admin.ask("POST", "/users", {"id": "u-alice"})
        invited = await admin.ask("POST", "/users/u-alice/invite", {})
    async with PhoneClient(broker.url) as phone:
        registered = await phone.post("register", {"invitation": invited.body["invitation"]})

        async def confirm() -> object:
            login_begun = await post(phone.http, "/oauth/device_authorization", client_id="default")
            scanned = await phone.post("scan", {"scene": login_begun["user_code"]})
            login = {"login_id": scanned.body["login_id"]}
            return (await phone.post("confirm", login)).body.get("state")

        states = await asyncio.gather(*(confirm() for _ in range(12)))

    assert registered.status == 200
    assert states == ["confirmed"] * 12


async def test_migrations_run_once_behind_pgbouncer(
    bouncer: PgBouncer, mode: str, postgres: PostgresServer
) -> None:
    url = bouncer.url(postgres.new_database())
    url += "?statement_cache_size=0" if MODES[mode] else ""
    databases = [Database(url) for _ in range(3)]

    missing = await asyncio.gather(*(database.migrate() for database in databases))
    status = await databases[0].status()
    for database in databases:
        await database.close()

    assert REVISIONS in missing
    assert status == (HEAD, ())


async def test_records_recover_when_pgbouncer_restarts(
    start_broker: StartBroker, settings: dict[str, object], bouncer: PgBouncer
) -> None:
    async with Admin((await start_broker(**settings)).admin) as admin:
        await asyncio.gather(*(admin.ask("GET", "/apps") for _ in range(8)))
        bouncer.stop()
        refused = (await admin.ask("GET", "/apps")).status
        bouncer.start()

        async def answers() -> bool:
            return (await admin.ask("GET", "/apps")).status == 200

        await eventually(answers, within=30)

    assert refused == 503


@pytest.mark.parametrize("name", urls.STATEMENT_CACHES)
def test_cache_size_in_url_must_be_whole_number(name: str) -> None:
    def sizes(value: str) -> dict[str, int]:
        return urls.statement_caches(urls.parse(f"postgresql+asyncpg://h/d?{name}={value}"))

    assert sizes("0") == dict.fromkeys(urls.STATEMENT_CACHES, 0)
    assert sizes("50") == {name: 50}
    for wrong in ("x", "-1", "1.5", "\u0663"):
        with pytest.raises(ValueError, match=f"{name}: use a whole number"):
            sizes(wrong)


def test_pgbouncer_setting_needs_postgresql() -> None:
    with pytest.raises(InvalidSettings, match="the records are in a SQLite file"):
        load_settings(records_pgbouncer=True)
