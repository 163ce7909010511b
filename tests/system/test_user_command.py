"""The command `scan-login user`, in the process of the test."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing

import pytest

from broker.users.rules import PAGE_SIZE
from tests.support.commands import Call, CommandResult
from tests.support.wechat import APPID


@pytest.fixture
def call(call: Call) -> Call:
    """Call `scan-login user` with the directory `sql`; settings by keyword."""

    def call_user(*words: str, **variables: str) -> CommandResult:
        return call("user", *words, **{"SCAN_LOGIN_DIRECTORY": "sql", **variables})

    return call_user


def show_user(call: Call, user_id: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(call("show", user_id, "--json").text)
    return found


def rows(call: Call) -> list[list[str]]:
    """Return the rows of `user list`."""
    return [line.split() for line in call("list").text.splitlines()[1:]]


def test_user_is_added_changed_blocked_and_removed(call: Call) -> None:
    added = call("add", "u-alice", "--name", "Alice")
    linked = call("link", "u-alice", "--openid", "alice", "--unionid", "alice-in-all")
    before = show_user(call, "u-alice")
    renamed, blocked = call("set", "u-alice", "--name", ""), call("block", "u-alice")
    after = show_user(call, "u-alice")
    listed = [call("list").text, call("show", "u-alice").text]

    unblocked = call("unblock", "u-alice")
    unlinked = call("unlink", "u-alice", "--openid", "alice")
    after_unlink = show_user(call, "u-alice")
    kept_user, removed = (call("remove", "u-alice", stdin=answer) for answer in ("n\n", "y\n"))

    done = (added, linked, renamed, blocked, unblocked, unlinked, removed)
    assert [item.code for item in done] == [0] * len(done)
    assert added.text == "u-alice\n"
    assert (before["name"], before["blocked"]) == ("Alice", False)
    assert before["identities"] == [
        {
            "provider": "pretend",
            "provider_app_id": "",
            "openid": "alice",
            "unionid": "alice-in-all",
        }
    ]
    assert (after["name"], after["blocked"]) == (None, True)
    assert listed[0].splitlines()[1].split() == ["u-alice", "blocked", "1", "-"]
    assert listed[1].splitlines()[-1].split() == ["pretend", "-", "alice", "alice-in-all"]
    assert (after_unlink["blocked"], after_unlink["identities"]) == (False, [])
    assert (kept_user.code, call("show", "u-alice").code) == (1, 1)
    assert rows(call) == []


def test_user_without_id_gets_a_generated_one(call: Call) -> None:
    added = json.loads(call("add", "--name", "Somebody", "--json").text)

    assert len(added["id"]) == 16
    assert show_user(call, added["id"]) == added


def test_invitation_is_printed_once(call: Call) -> None:
    call("add", "u-alice")

    secret, *rest = call("invite", "u-alice", "--expires-in", "600").text.splitlines()
    second = json.loads(call("invite", "u-alice", "--json").text)

    assert len(secret) == 30
    assert rest == ["valid for one phone and 600 seconds: it links the phone to u-alice"]
    assert second["expires_in"] == 86_400
    assert second["invitation"] != secret
    with closing(sqlite3.connect("scan-login.db")) as database:
        dump = "\n".join(database.iterdump())
    assert secret not in dump
    assert second["invitation"] not in dump


def test_wechat_identity_belongs_to_configured_mini_program(call: Call) -> None:
    wechat = {
        "SCAN_LOGIN_PROVIDER": "wechat",
        "SCAN_LOGIN_WECHAT_APPID": APPID,
        "SCAN_LOGIN_WECHAT_SECRET": "x",
    }
    call("add", "u-alice")
    call("link", "u-alice", "--openid", "one", **wechat)
    call("link", "u-alice", "--openid", "two", "--provider-app-id", "wx2", **wechat)

    identities = show_user(call, "u-alice")["identities"]
    assert isinstance(identities, list)
    assert [(item["provider"], item["provider_app_id"]) for item in identities] == [
        ("wechat", APPID),
        ("wechat", "wx2"),
    ]


def test_user_list_prints_all_pages(call: Call) -> None:
    with closing(sqlite3.connect("scan-login.db")) as database:
        rows = [(f"u-{number:04}", 0.0, 0.0) for number in range(2 * PAGE_SIZE + 1)]
        database.executemany(
            "INSERT INTO users (id, created_at, changed_at) VALUES (?, ?, ?)", rows
        )
        database.commit()

    assert [item["id"] for item in json.loads(call("list", "--json").text)] == [
        row[0] for row in rows
    ]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["show", "unknown"], "no user has this id"),
        (["block", "unknown"], "no user has this id"),
        (["invite", "unknown"], "no user has this id"),
        (["remove", "unknown", "--yes"], "no user has this id"),
        (["add", "u-alice"], "a user with this id already exists"),
        (["add", "a b"], "id: must be letters, digits"),
        (["invite", "u-alice", "--expires-in", "0"], "expires_in: must be whole seconds"),
        (["link", "u-bob", "--openid", "alice"], "this identity is already linked to another user"),
        (["link", "u-bob", "--openid", "b", "--provider", "x"], "provider: use one of pretend"),
        (["unlink", "u-bob", "--openid", "alice"], "the user does not have this identity"),
    ],
)
def test_invalid_user_command_is_refused(call: Call, words: list[str], sentence: str) -> None:
    for name in ("u-alice", "u-bob"):
        call("add", name)
    call("link", "u-alice", "--openid", "alice")

    refused = call(*words)

    assert refused.code == 1
    assert sentence in refused.text
    assert rows(call) == [["u-alice", "active", "1", "-"], ["u-bob", "active", "0", "-"]]


@pytest.mark.parametrize(
    "words", [["list"], ["add"], ["invite", "x"], ["link", "x", "--openid", "y"]]
)
def test_user_commands_need_the_sql_directory(call: Call, words: list[str]) -> None:
    refused = call(*words, SCAN_LOGIN_DIRECTORY="open")

    assert refused.code == 1
    assert "the directory is open, which does not use the users in the records" in refused.text
    assert "SCAN_LOGIN_DIRECTORY=sql" in refused.text
    assert rows(call) == []


def test_claims_are_set_replaced_and_removed(call: Call) -> None:
    call("add", "u-alice", "--email", "a@shop.example", "--email-verified", "--group", "staff")
    before = show_user(call, "u-alice")

    call("set", "u-alice", "--group", "admins", "--group", "ops", "--email", "")

    after = show_user(call, "u-alice")
    assert (before["email_verified"], before["groups"]) == (True, ["staff"])
    assert (after["email"], after["email_verified"]) == (None, None)
    assert after["groups"] == ["admins", "ops"]
    assert re.search("^groups +admins, ops$", call("show", "u-alice").text, re.MULTILINE)
    assert call("set", "u-alice", "--group", "").code == 0
    assert show_user(call, "u-alice")["groups"] is None


def test_change_of_nothing_is_a_usage_error(call: Call) -> None:
    assert call("set", "u-alice").code == 2
