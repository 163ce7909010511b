"""Changes by commands are in the audit log."""

from __future__ import annotations

import asyncio
import os
import pwd
import sqlite3
from collections.abc import Sequence
from contextlib import closing

import pytest

from broker.records.audit_log import SqlAuditLog
from broker.records.errors import RecordsUnavailable
from tests.support.commands import Call, command_names
from tests.support.wechat import APPID

USERS = {"SCAN_LOGIN_DIRECTORY": "sql"}

CHANGES: Sequence[tuple[str, str]] = [
    ("app add shop", "shop"),
    ("app set shop --name Shop", "shop"),
    ("app rotate-secret shop", "shop"),
    ("app rotate-webhook-secret shop", "shop"),
    ("key rewrap", ""),
    ("pool fill --app shop --count 1 --rate 4500", "shop"),
    ("pool retire --app shop --all --yes", "shop"),
    ("app remove shop --yes", "shop"),
    ("user add u-alice", "u-alice"),
    ("user set u-alice --name Alice", "u-alice"),
    ("user invite u-alice", "u-alice"),
    ("user link u-alice --openid alice", "u-alice"),
    ("user unlink u-alice --openid alice", "u-alice"),
    ("user block u-alice", "u-alice"),
    ("user unblock u-alice", "u-alice"),
    ("user remove u-alice --yes", "u-alice"),
]
"""Commands that change the records, in an order in which each is accepted, and their targets."""


@pytest.fixture(autouse=True)
def _without_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_USER", raising=False)


def entries() -> list[tuple[str, ...]]:
    """Return actor, act and target of the acts in the log, oldest first."""
    with closing(sqlite3.connect("scan-login.db")) as database:
        return database.execute(
            "SELECT actor, reason, coalesce(target, '') FROM ended_logins WHERE kind = 'admin' "
            "ORDER BY ended_at"
        ).fetchall()


def test_each_change_by_command_is_recorded(call: Call) -> None:
    actor = f"cli:{pwd.getpwuid(os.getuid()).pw_name}"

    done = [call(*command.split(), **USERS) for command, _ in CHANGES]

    assert [item.code for item in done] == [0] * len(CHANGES), done
    acts = [(" ".join(command.split()[:2]), target) for command, target in CHANGES]
    assert entries() == [(actor, act, target) for act, target in acts]


def test_generated_user_id_is_recorded(call: Call) -> None:
    user_id = call("user", "add", **USERS).text.strip()

    assert [entry[1:] for entry in entries()] == [("user add", user_id)]


def test_oidc_app_has_entry_for_its_secret(call: Call) -> None:
    call("app", "add", "wiki", "--oidc", "--redirect-url", "https://wiki.example/cb")

    assert [act for _, act, _ in entries()] == ["app add", "app rotate-secret"]


@pytest.mark.parametrize(
    "words",
    [("app", "set", "unknown", "--name", "x"), ("app", "list"), ("user", "block", "unknown")],
)
def test_refused_change_and_read_are_not_recorded(call: Call, words: Sequence[str]) -> None:
    call(*words, **USERS)

    assert entries() == []


def test_failed_change_that_may_be_partial_is_recorded(call: Call) -> None:
    call("app", "add", "shop", "--provider", "wechat", "--provider-app-id", APPID)

    failed = call("pool", "fill", "--app", "shop", "--count", "1", "--rate", "4500")

    assert failed.code == 1
    assert [act for _, act, _ in entries()] == ["app add", "pool fill"]


READS = {
    *("app list", "app show", "user list", "user show", "pool status", "pool verify"),
    *("key create", "key list", "key rotate"),
}
"""Subcommands without an entry. Those of `key` change files only."""


def test_every_subcommand_is_recorded_or_a_read() -> None:
    groups = {"app", "key", "pool", "user"}
    all_names = {" ".join(words) for words in command_names() if words[0] in groups}
    recorded = {" ".join(command.split()[:2]) for command, _ in CHANGES}

    assert all_names == recorded | READS


async def test_change_without_an_entry_is_reported(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def locked(self: SqlAuditLog) -> None:
        raise RecordsUnavailable("database is locked")

    monkeypatch.setattr(SqlAuditLog, "store_queued", locked)
    done = await asyncio.to_thread(call, "app", "add", "shop")

    assert done.code == 0
    assert "the change is not in the audit log: database is locked" in done.text


def test_caller_of_sudo_is_the_actor(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 0)

    call("app", "add", "shop", SUDO_USER="alice")

    assert entries() == [("cli:alice", "app add", "shop")]
