"""The audit log at the admin port: search, export and entries of all kinds."""

from __future__ import annotations

import json
import sqlite3
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import closing

import pytest

from broker.records.app_admin import SqlAppAdmin
from broker.records.errors import RecordsUnavailable
from tests.support.app_admin import RED, TOKEN, Admin
from tests.support.builders import RunningBroker, StartBroker
from tests.support.logins import token_of
from tests.support.waiting import eventually

ROWS = 20_000

PEAK_MAX = 4_000_000
"""Bytes of a few pages, for any number of rows. All rows together take more than 20 MB."""

INSERT = """
INSERT INTO ended_logins
    (login_id, app, state, ip, user_agent, began_at, ended_at, instance, seq)
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?)
SELECT 'login-' || n, 'shop', 'denied', '192.0.2.7', 'Firefox', 4e9, 4e9, 'one', n FROM numbers
"""
"""Numbered rows, too young to be deleted."""


@pytest.fixture
async def broker(start_broker: StartBroker, monkeypatch: pytest.MonkeyPatch) -> RunningBroker:
    monkeypatch.setattr("broker.records.audit_log.FLUSH_INTERVAL", 0.01)
    monkeypatch.setattr("broker.audit.numbering.INTERVAL", 0.01)
    return await start_broker(admin_token=TOKEN, audit_chain=True)


@pytest.fixture
async def admin(broker: RunningBroker) -> AsyncIterator[Admin]:
    async with Admin(broker.admin) as admin:
        yield admin


async def exported(admin: Admin, after: int = 0) -> list[dict[str, object]]:
    async with admin.http.get(f"/trail.ndjson?after={after}") as response:
        assert response.content_type == "application/x-ndjson"
        return [json.loads(line) for line in (await response.text()).splitlines()]


async def entries(admin: Admin, query: str) -> list[dict[str, object]]:
    answer = await admin.ask("GET", f"/trail?{query}")
    found: list[dict[str, object]] = answer.body["entries"]
    return found


async def test_logins_and_acts_of_operators_are_in_the_log(
    broker: RunningBroker, admin: Admin
) -> None:
    await token_of(broker)
    await admin.ask("POST", "/apps", {**RED, "provider_secret": None})
    await admin.ask("DELETE", "/apps/red")
    await eventually(lambda: has_entries(admin, 3))

    [removed, added] = await entries(admin, "kind=admin")
    [login] = await entries(admin, "kind=login&state=redeemed&app=default")

    assert (added["actor"], added["target"], added["reason"]) == ("token", "red", "POST /apps")
    assert (removed["target"], removed["reason"]) == ("red", "DELETE /apps/{id}")
    assert login["subject"] == "pretend:alice"
    assert {len(str(entry["hash"])) for entry in await exported(admin)} == {64}
    assert TOKEN not in str(await exported(admin))


async def test_act_that_fails_half_done_is_in_the_log(
    admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = SqlAppAdmin.remove

    async def fail_after_removal(self: SqlAppAdmin, app_id: str) -> None:
        await remove(self, app_id)
        raise RecordsUnavailable("connection lost")

    await admin.ask("POST", "/apps", {**RED, "provider_secret": None})
    with monkeypatch.context() as patch:
        patch.setattr(SqlAppAdmin, "remove", fail_after_removal)
        failed = await admin.ask("DELETE", "/apps/red")
    refused = await admin.ask("DELETE", "/apps/red")
    await eventually(lambda: has_entries(admin, 2))

    assert (failed.status, refused.status) == (503, 404)
    found = [(entry["target"], entry["reason"]) for entry in await entries(admin, "kind=admin")]
    assert found == [("red", "DELETE /apps/{id}"), ("red", "POST /apps")]


async def has_entries(admin: Admin, count: int) -> bool:
    return len(await entries(admin, "limit=999")) == count


async def test_export_leaves_an_entry(admin: Admin) -> None:
    assert await exported(admin) == []
    await eventually(lambda: has_entries(admin, 1))

    [entry] = await entries(admin, "kind=admin")

    assert (entry["actor"], entry["reason"]) == ("token", "GET /trail.ndjson")


async def test_pages_of_the_search_follow_each_other(broker: RunningBroker, admin: Admin) -> None:
    for number in range(3):
        await admin.ask("POST", "/apps", {**RED, "id": f"app-{number}", "provider_secret": None})
    await eventually(lambda: has_entries(admin, 3))

    first = (await admin.ask("GET", "/trail?limit=2")).body
    second = (await admin.ask("GET", f"/trail?limit=2&after={first['next']}")).body

    targets = [entry["target"] for entry in [*first["entries"], *second["entries"]]]
    assert targets == ["app-2", "app-1", "app-0"]
    assert "next" not in second


async def test_bad_queries_are_refused(admin: Admin) -> None:
    statuses = set()
    for name in ("app", "subject", "state", "kind", "since", "after", "limit"):
        for value in ["", "-1", "1e9", "x" * 300, "\0", "9" * 30]:
            async with admin.http.get("/trail", params={name: value}) as response:
                statuses.add(response.status)
    for path in ("/trail.ndjson?after=x", "/trail.ndjson?after=-1", "/trail?limit=1000"):
        assert (await admin.ask("GET", path)).status == 400

    assert statuses <= {200, 400}


async def test_nul_in_search_is_refused(start_broker: StartBroker, records_url: str) -> None:
    broker = await start_broker(admin_token=TOKEN, records_url=records_url)
    async with Admin(broker.admin) as admin:
        answers = [
            await admin.ask("GET", f"/trail?{name}=%00") for name in ("app", "subject", "state")
        ]
    assert [answer.status for answer in answers] == [400, 400, 400]


async def test_export_has_constant_memory(admin: Admin, records_file: str) -> None:
    with closing(sqlite3.connect(records_file)) as database, database:
        database.execute(INSERT, [ROWS])
        database.execute("UPDATE audit_marks SET seq = ? WHERE name = 'last'", [ROWS])
    lines, last = 0, b""
    tracemalloc.start()
    async with admin.http.get("/trail.ndjson?after=0") as response:
        async for line in response.content:
            lines, last = lines + 1, line
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert lines in (ROWS, ROWS + 1), "the entry of the export itself may be the last one"
    assert json.loads(last)["seq"] == lines
    assert peak < PEAK_MAX
