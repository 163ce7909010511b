"""The commands `scan-login app`, `records` and `key rewrap`.

Most run in the process of the test, because a new process takes a second or two to start.
"""

from __future__ import annotations

import base64
import json
import re
import sqlite3
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest

from broker.records.migrations import HEAD, REVISIONS, VERSION_TABLE
from tests.support.commands import Call, run, serving
from tests.support.environment import free_port
from tests.support.waiting import wait_until
from tests.support.wechat import APPID

SECRET = "canary-app-secret"


def list_apps(call: Call) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(call("app", "list", "--json").text)
    return found


def test_app_is_added_changed_listed_and_removed(call: Call, tmp_path: Path) -> None:
    options = ["--name", "A site", "--origin", "https://a.example", "--origin", "https://b.example"]
    more_options = [
        "--register-url",
        "https://a.example/register",
        "--login-lifetime",
        "60",
        "--secret",
    ]
    added = call("app", "add", "site", *options, *more_options, stdin=f"{SECRET}\n")
    [before] = list_apps(call)
    change = ["--name", "B", "--register-url", "", "--login-lifetime", "0", "--no-secret"]
    changed = call("app", "set", "site", *change)
    [after] = list_apps(call)
    shown = call("app", "list")

    kept_app = call("app", "remove", "site", stdin="n\n")
    removed = call("app", "remove", "site", stdin="y\n")

    assert (added.code, changed.code) == (0, 0)
    assert "running brokers apply this within seconds" in added.text
    assert before["origins"] == after["origins"] == ["https://a.example", "https://b.example"]
    assert (before["login_lifetime"], before["has_provider_secret"]) == (60, True)
    assert (after["name"], after["register_url"], after["login_lifetime"]) == ("B", None, None)
    assert after["has_provider_secret"] is False
    assert re.search(r"^site +B +confidential .* no +20\d\d-", shown.text, re.MULTILINE)
    assert re.search(r"^default +from the settings( +-)*$", shown.text, re.MULTILINE)
    assert (kept_app.code, removed.code) == (1, 0)
    assert list_apps(call) == []
    assert SECRET not in str([before, after, added, changed, shown])
    assert (tmp_path / "scan-login-seal.json").stat().st_mode & 0o777 == 0o600


def test_rotated_app_secret_is_printed_once(call: Call, tmp_path: Path) -> None:
    call("app", "add", "site")

    secret, *rest = call("app", "rotate-secret", "site").text.splitlines()

    assert len(secret) == 43
    [note] = rest
    assert "it is not printed again; running brokers apply this within seconds" in note
    [app] = list_apps(call)
    assert app["has_api_secret"] is True
    with closing(sqlite3.connect("scan-login.db")) as database:
        assert secret not in "\n".join(database.iterdump())


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["set", "unknown", "--name", "x"], 1, "the records have no app 'unknown'"),
        (["set", "site"], 2, "no change is given"),
        (["add", "site"], 1, "an app with this id already exists"),
        (["add", "default"], 1, "the app 'default' is defined by the settings"),
        (["add", "two", "--origin", "a.example"], 1, "origins: 'a.example' is not an Origin"),
        (["add", "two", "--secret"], 2, "standard input has no secret"),
        (
            ["add", "two", "--provider", "wechat", "--provider-app-id", "wxbad"],
            1,
            "provider_app_id: 'wxbad' is not an AppID",
        ),
    ],
)
def test_invalid_app_command_is_refused(
    call: Call, words: list[str], code: int, sentence: str
) -> None:
    call("app", "add", "site")

    refused = call("app", *words)

    assert refused.code == code
    assert sentence in refused.text
    assert [app["name"] for app in list_apps(call)] == ["site"]


def test_incomplete_account_at_provider_is_reported(call: Call) -> None:
    both = ["--provider-app-id", APPID, "--secret"]
    without_secret = call("app", "add", "two", "--provider", "wechat", *both[:2])
    complete = call("app", "set", "two", "--secret", stdin=SECRET)
    without_id = call("app", "set", "two", "--provider-app-id", "")
    pretend = call("app", "add", "three", *both[:2])

    assert (
        "the app gets no codes without provider_secret: run scan-login app set two --secret\n"
        in without_secret.text
    )
    assert "without provider_app_id: run scan-login app set two --provider-app-id APPID\n" in (
        without_id.text
    )
    assert "gets no codes" not in complete.text + pretend.text


def test_unknown_app_is_named(call: Call) -> None:
    refused = call("provider", "check", "--app", "shpo")

    assert refused.code == 1
    assert "no app has the id 'shpo'" in refused.text


def test_each_mistake_is_on_its_own_line(call: Call) -> None:
    refused = call("app", "add", "site", "--origin", "nowhere", "--pkce", "maybe")

    assert refused.code == 1
    assert [line.split(":")[0] for line in refused.text.splitlines()] == ["origins", "pkce"]


def test_running_broker_serves_a_new_app(tmp_path: Path) -> None:
    with serving(tmp_path, SCAN_LOGIN_PORT="0") as (_, line):
        url = line.split(" ready on ")[1].split()[0]
        added = run(tmp_path, "app", "add", "site", "--secret", stdin=SECRET)
        wait_until(lambda: can_begin(url, "site"))

    assert (added.returncode, added.stderr) == (0, "")


def test_records_status_names_missing_migrations(call: Call) -> None:
    other_database = {"SCAN_LOGIN_RECORDS_URL": "sqlite+aiosqlite:///other.db"}
    before = call("records", "status", **other_database)
    migrated = call("records", "migrate", **other_database)
    after = call("records", "status", **other_database)

    assert before.code == 1
    assert f"missing: {', '.join(REVISIONS)}" in before.text
    assert ", ".join(REVISIONS) in migrated.text
    assert (after.code, f"revision {HEAD}\nup to date" in after.text) == (0, True)


def test_records_of_newer_program_are_refused(tmp_path: Path, records_file: Path) -> None:
    with closing(sqlite3.connect(records_file)) as database:
        database.execute(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
        database.commit()

    url = f"sqlite+aiosqlite:///{records_file}"
    refused = run(tmp_path, "serve", SCAN_LOGIN_RECORDS_URL=url, SCAN_LOGIN_PORT="0")

    assert refused.returncode == 1
    assert "have revision 9999" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_database_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "records.db").mkdir()

    url = f"sqlite+aiosqlite:///{tmp_path}/records.db"
    refused = run(tmp_path, "serve", SCAN_LOGIN_RECORDS_URL=url, SCAN_LOGIN_PORT="0")

    assert refused.returncode == 1
    assert "unable to open database file; " in refused.stderr
    assert "the file belongs to another user" in refused.stderr


def test_broker_without_database_does_not_start(tmp_path: Path) -> None:
    url = f"postgresql+asyncpg://u:hunter2@127.0.0.1:{free_port()}/x"

    refused = run(tmp_path, "serve", SCAN_LOGIN_RECORDS_URL=url, SCAN_LOGIN_PORT="0")

    assert refused.returncode == 1
    assert "start the database, or correct SCAN_LOGIN_RECORDS_URL" in refused.stderr
    assert "hunter2" not in refused.stderr
    assert "Traceback" not in refused.stderr


def test_rewrap_encrypts_secrets_with_newer_key(call: Call, tmp_path: Path) -> None:
    call("app", "add", "site", "--secret", stdin=SECRET)

    assert "1 secrets had an older key;" in call("key", "rewrap", "--new-key").text
    assert "0 secrets had an older key;" in call("key", "rewrap").text
    assert len(json.loads((tmp_path / "scan-login-seal.json").read_text())["keys"]) == 2


def test_seal_keys_in_settings_are_used(call: Call, tmp_path: Path) -> None:
    old, new = (base64.b64encode(letter * 32).decode() for letter in (b"o", b"n"))
    call("app", "add", "site", "--secret", stdin=SECRET, SCAN_LOGIN_SEAL_KEYS=old)

    rewrapped = call("key", "rewrap", SCAN_LOGIN_SEAL_KEYS=f"{new},{old}")
    refused = call("key", "rewrap", "--new-key", SCAN_LOGIN_SEAL_KEYS=new)
    shown = call("config", "show", SCAN_LOGIN_SEAL_KEYS=new, SCAN_LOGIN_ADMIN_TOKEN=new)
    wrong = call("config", "check", SCAN_LOGIN_SEAL_KEYS="c2hvcnQtY2FuYXJ5")

    assert "1 secrets had an older key;" in rewrapped.text
    assert "put a new key first in SCAN_LOGIN_SEAL_KEYS" in refused.text
    assert re.search(r"^seal_keys +\*{3}", shown.text, re.MULTILINE)
    assert new not in shown.text
    assert "SCAN_LOGIN_SEAL_KEYS: use 32 bytes in base64" in wrong.text
    assert "c2hvcnQ" not in wrong.text
    assert not (tmp_path / "scan-login-seal.json").exists()


def can_begin(url: str, app: str) -> bool:
    """Whether a device can begin a login for the app."""
    form = f"client_id={app}".encode()
    try:
        with urllib.request.urlopen(f"{url}/oauth/device_authorization", data=form) as response:
            return json.load(response)["expires_in"] > 0
    except urllib.error.HTTPError as error:
        error.close()
        return False


def test_oidc_app_has_a_printed_secret_and_phone_app(call: Call) -> None:
    added = call("app", "add", "wiki", "--oidc", "--redirect-url", "https://wiki.example/cb")

    [app] = list_apps(call)

    assert "client_id: wiki\nclient_secret: " in added.text
    assert (app["has_api_secret"], app["phone_app"]) == (True, "default")
    assert app["redirect_urls"] == ["https://wiki.example/cb"]
    assert call("app", "add", "other", "--oidc").code == 2


def test_public_oidc_app_has_no_secret(call: Call) -> None:
    options = ["--client-type", "public", "--redirect-url", "com.example.app:/cb"]
    added = call("app", "add", "native", "--oidc", *options)

    [app] = list_apps(call)

    assert "client_secret" not in added.text
    assert (app["has_api_secret"], app["client_type"]) == (False, "public")


def test_options_of_openid_connect_are_set_and_cleared(call: Call) -> None:
    options = ["--sso", "--home-url", "https://wiki.example", "--scope", "openid"]
    call("app", "add", "wiki", *options, "--network", "192.0.2.0/24")
    [before] = list_apps(call)

    changed = call("app", "set", "wiki", "--no-sso", "--home-url", "", "--network", "")

    [after] = list_apps(call)
    assert (before["sso"], before["scopes"]) == (True, ["openid"])
    assert before["networks"] == ["192.0.2.0/24"]
    assert changed.code == 0
    assert (after["sso"], after["home_url"], after["networks"]) == (False, None, [])


def test_stored_malformed_appid_does_not_block_other_changes(call: Call) -> None:
    """An older version has accepted it."""
    call("app", "add", "shop", "--provider-app-id", "gh_123")
    with closing(sqlite3.connect("scan-login.db")) as database, database:
        database.execute("UPDATE apps SET provider = 'wechat'")

    renamed = call("app", "set", "shop", "--name", "Shop")
    again = call("app", "set", "shop", "--provider-app-id", "gh_124")

    assert (renamed.code, again.code) == (0, 1)
    assert "'gh_124' is not an AppID" in again.text
