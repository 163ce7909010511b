"""Filters and JSON of the commands that print lists."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.commands import Call

SQL = {"SCAN_LOGIN_DIRECTORY": "sql"}


def listed(call: Call, *words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(call(*words, "--json", **SQL).text)
    return found


def ids(call: Call, *words: str) -> list[str]:
    return [str(item["id"]) for item in listed(call, *words)]


def test_app_list_prints_selected_apps(call: Call) -> None:
    call("app", "add", "shop", "--name", "Shop of Ann")
    call("app", "add", "wiki", "--provider", "wechat", "--provider-app-id", "wx" + "0" * 16)

    assert ids(call, "app", "list") == ["shop", "wiki"]
    assert ids(call, "app", "list", "--name", "ann") == ["shop"]
    assert ids(call, "app", "list", "--provider", "wechat") == ["wiki"]
    assert "from the settings" not in call("app", "list", "--name", "ann").text


def test_user_list_prints_selected_users(call: Call) -> None:
    call("user", "add", "u-ann", "--name", "Ann", "--group", "staff", **SQL)
    call("user", "add", "u-bob", **SQL)
    call("user", "block", "u-bob", **SQL)

    assert ids(call, "user", "list") == ["u-ann", "u-bob"]
    assert ids(call, "user", "list", "--name", "ANN") == ["u-ann"]
    assert ids(call, "user", "list", "--group", "staff") == ["u-ann"]
    assert ids(call, "user", "list", "--blocked") == ["u-bob"]
    assert ids(call, "user", "list", "--active") == ["u-ann"]


def test_key_list_prints_selected_keys(call: Call) -> None:
    call("key", "create")

    assert len(listed(call, "key", "list")) == 4
    [key] = listed(call, "key", "list", "--use", "next", "--alg", "ES256")
    assert (key["status"], key["algorithm"]) == ("next", "ES256")


def test_key_rotate_prints_the_new_keys(call: Call) -> None:
    call("key", "create")

    rotated = listed(call, "key", "rotate", "--now")

    assert rotated == listed(call, "key", "list")


def test_pool_status_prints_selected_app(call: Call) -> None:
    call("pool", "fill", "--count", "1", "--rate", "4500")

    assert [item["app"] for item in listed(call, "pool", "status", "--app", "default")] == [
        "default"
    ]
    assert listed(call, "pool", "status", "--app", "shop") == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["audit", "verify"], {"checked": 0, "broken_at": None, "problem": ""}),
        (["pool", "verify"], []),
        (["provider", "check"], {"provider": "pretend", "app": "default"}),
        (["app", "add", "shop"], {"client_id": "shop", "client_secret": None}),
    ],
)
def test_command_prints_json(call: Call, words: list[str], expected: object) -> None:
    done = call(*words, "--json", SCAN_LOGIN_AUDIT_CHAIN="true")

    assert (done.code, json.loads(done.text)) == (0, expected)


def test_records_status_prints_json(call: Call) -> None:
    other_database = {"SCAN_LOGIN_RECORDS_URL": "sqlite+aiosqlite:///other.db"}

    current = call("records", "status", "--json")
    missing = call("records", "status", "--json", **other_database)

    assert (current.code, json.loads(current.text)["missing"]) == (0, [])
    assert (missing.code, json.loads(missing.text)["revision"]) == (1, None)
