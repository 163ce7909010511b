"""The command `scan-login audit`, and processes that number the entries of one log."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from broker.records.audit_export import SqlAuditExport
from broker.records.audit_log import SqlAuditLog
from broker.records.database import Database
from tests.support.builders import Clock, a_login
from tests.support.commands import Call
from tests.support.environment import ROOT

ROWS = [
    ("login-1", None, "denied", "user-1", 1_700_000_000.0),
    ("login-2", None, "redeemed", "user-2", 1_700_000_100.0),
    ("admin-3", "admin", "done", None, 1_700_000_200.0),
]

INSERT = """
INSERT INTO ended_logins
    (login_id, kind, state, subject, ended_at, app, ip, user_agent, began_at, instance, seq)
VALUES (?, ?, ?, ?, ?, 'shop', '192.0.2.7', 'Firefox', 0, 'one', ?)
"""

NUMBER = """
import asyncio, sys
from broker.records.audit_export import SqlAuditExport
from broker.records.database import Database

async def main():
    database = Database(sys.argv[1])
    export = SqlAuditExport(database, chains=True)
    while await export.number(3):
        pass
    await database.close()

asyncio.run(main())
"""
"""A process that numbers entries in small batches."""


@pytest.fixture
def _rows(call: Call) -> None:
    with closing(sqlite3.connect("scan-login.db")) as database, database:
        database.executemany(INSERT, [(*row, seq) for seq, row in enumerate(ROWS, 1)])


def found(call: Call, *options: str) -> Sequence[int]:
    return [entry["seq"] for entry in json.loads(call("audit", "list", "--json", *options).text)]


@pytest.mark.usefixtures("_rows")
def test_list_shows_the_selected_entries(call: Call) -> None:
    assert found(call) == [3, 2, 1]
    assert found(call, "--subject", "user-1") == [1]
    assert found(call, "--app", "wiki") == []
    assert found(call, "--kind", "admin") == [3]
    assert found(call, "--state", "redeemed", "--kind", "login") == [2]
    assert found(call, "--since", "2023-11-14T22:15:00") == [3, 2]
    assert found(call, "--limit", "1") == [3]
    assert "2023-11-14 22:13:20Z  login" in call("audit", "list").text


@pytest.mark.usefixtures("_rows")
def test_export_prints_entries_after_a_number(call: Call) -> None:
    lines = call("audit", "export", "--after", "1").text.splitlines()

    assert [json.loads(line)["id"] for line in lines] == ["login-2", "admin-3"]


@pytest.mark.parametrize("records_url", ["sqlite", "postgresql"], indirect=True)
async def test_processes_number_each_entry_once(records_url: str, clock: Clock) -> None:
    database = Database(records_url)
    trail = SqlAuditLog(database, lifetime=3600, clock=clock)
    for number in range(60):
        trail.record(a_login(clock, id=f"login-{number:02}"), now=clock())
    await trail.store_queued()

    arguments = [sys.executable, "-c", NUMBER, records_url]
    processes = [subprocess.Popen(arguments, cwd=ROOT) for _ in range(3)]
    codes = [process.wait(timeout=90) for process in processes]

    export = SqlAuditExport(database, chains=True)
    entries = await export.page(0, 100)
    assert codes == [0, 0, 0]
    assert [entry["seq"] for entry in entries] == list(range(1, 61))
    assert (await export.verify()) == (60, None, "")
    await database.close()


async def test_verify_exits_with_the_first_break(call: Call, clock: Clock, tmp_path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/scan-login.db")
    trail = SqlAuditLog(database, lifetime=3600, clock=clock)
    for login_id in ("a", "b"):
        trail.record(a_login(clock, id=login_id), now=clock())
    await trail.store_queued()
    await SqlAuditExport(database, chains=True).number(10)
    await database.close()

    def verify() -> subprocess.CompletedProcess[str]:
        arguments = [sys.executable, "-m", "broker", "audit", "verify"]
        environment = {"PYTHONPATH": str(ROOT), "SCAN_LOGIN_LOG_LEVEL": "error"}
        return subprocess.run(
            arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    before = verify()
    with closing(sqlite3.connect(tmp_path / "scan-login.db")) as edited, edited:
        edited.execute("UPDATE ended_logins SET ip = '203.0.113.9' WHERE seq = 2")
    after = verify()

    assert (before.returncode, before.stdout) == (0, "2 entries agree with the hash chain\n")
    assert after.returncode == 1
    assert "broken at entry 2: the entry was changed" in after.stderr
