"""`scan-login app set --wafer-key` reads the key from standard input, and prints it nowhere."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

from tests.support.commands import Call

KEY = "canary-wafer-key-of-32-characters"


def has_key(call: Call) -> object:
    [app] = json.loads(call("app", "list", "--json").text)
    return app["has_wafer_key"]


def test_wafer_key_is_sealed_shown_nowhere_and_removed(call: Call) -> None:
    call("app", "add", "site", "--wafer-host", "wafer.example")

    changed = call("app", "set", "site", "--wafer-key", stdin=f"{KEY}\n")

    assert (changed.code, has_key(call)) == (0, True)
    shown = [call(*words).text for words in (["app", "list"], ["app", "list", "--json"])]
    with closing(sqlite3.connect("scan-login.db")) as database:
        stored = "\n".join(database.iterdump())
    assert "wafer.example" in stored
    assert KEY not in "".join([changed.text, stored, *shown])
    assert call("app", "set", "site", "--no-wafer-key").code == 0
    assert has_key(call) is False


def test_invalid_wafer_keys_are_refused_without_echo(call: Call) -> None:
    call("app", "add", "site")

    short = call("app", "set", "site", "--wafer-key", stdin="canary-short")
    missing = call("app", "set", "site", "--wafer-key")
    both = call("app", "set", "site", "--wafer-key", "--secret", stdin=KEY)

    assert (short.code, missing.code, both.code) == (1, 2, 2)
    assert "wafer_key" in short.text
    assert "canary" not in short.text + missing.text + both.text
    assert has_key(call) is False


def test_configured_wafer_key_is_not_in_config_output(call: Call) -> None:
    variables = {"SCAN_LOGIN_WAFER_HOST": "wafer.example", "SCAN_LOGIN_WAFER_KEY": KEY}

    outputs = [call("config", verb, **variables).text for verb in ("check", "show")]
    wrong = call("config", "check", SCAN_LOGIN_WAFER_KEY="canary-short")

    assert "canary" not in "".join([*outputs, wrong.text])
    assert "SCAN_LOGIN_WAFER_KEY" in wrong.text
