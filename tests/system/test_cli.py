"""The commands `scan-login serve`, `key`, `provider` and `demo`."""

from __future__ import annotations

import json
import os
import re
import signal
import urllib.request
from pathlib import Path

import pytest

from broker import __version__
from mp_stub.wechat.platform import APPID, SECRET
from tests.support.commands import call, run, serving, wechat_serving
from tests.support.environment import free_port
from tests.support.waiting import wait_until


def test_command_prints_help_and_version(tmp_path: Path) -> None:
    assert "serve" in run(tmp_path, "--help").stdout
    assert run(tmp_path, "--version").stdout.strip() == __version__


def test_serve_prints_ready_line_and_ends_cleanly(tmp_path: Path) -> None:
    port = free_port()
    variables = {"SCAN_LOGIN_PORT": str(port), "SCAN_LOGIN_LOG_LEVEL": "warning"}
    with serving(tmp_path, **variables) as (process, line):
        assert re.match(
            rf"scan-login {re.escape(__version__)} ready on http://127.0.0.1:{port} ", line
        )
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready") as response:
            assert response.status == 200

        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=90)

        assert (process.returncode, output, errors) == (0, "", "")
    assert (tmp_path / "scan-login-keys.json").stat().st_mode & 0o777 == 0o600


def test_ctrl_c_ends_serve(tmp_path: Path) -> None:
    with serving(tmp_path, SCAN_LOGIN_PORT="0") as (process, _):
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=90)
        assert process.returncode == 0


def test_metrics_are_on_the_admin_port(tmp_path: Path) -> None:
    admin = free_port()
    variables = {"SCAN_LOGIN_PORT": "0", "SCAN_LOGIN_ADMIN_PORT": str(admin)}
    with (
        serving(tmp_path, **variables),
        urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics") as response,
    ):
        assert b"scanlogin_logins_total" in response.read()


def test_port_in_use_is_named_with_remedy(tmp_path: Path) -> None:
    with serving(tmp_path, SCAN_LOGIN_PORT="0") as (_, line):
        port = line.split("http://127.0.0.1:")[1].split()[0]

        refused = run(tmp_path, "serve", SCAN_LOGIN_PORT=port, SCAN_LOGIN_ADMIN_PORT="0")

    assert refused.returncode == 1
    assert f"port {port} on 127.0.0.1 is in use" in refused.stderr
    assert "SCAN_LOGIN_PORT=" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_admin_port_in_use_turns_metrics_off(tmp_path: Path) -> None:
    admin = str(free_port())
    with (
        serving(tmp_path, SCAN_LOGIN_PORT="0", SCAN_LOGIN_ADMIN_PORT=admin),
        serving(tmp_path, SCAN_LOGIN_PORT="0", SCAN_LOGIN_ADMIN_PORT=admin) as (second, line),
    ):
        assert " ready on " in line
        second.send_signal(signal.SIGTERM)
        assert "SCAN_LOGIN_ADMIN_PORT" in second.communicate(timeout=90)[1]


def test_running_broker_publishes_rotated_keys(tmp_path: Path) -> None:
    with serving(tmp_path, SCAN_LOGIN_PORT="0") as (_, line):
        url = line.split(" ready on ")[1].split()[0]
        before = listed_keys(tmp_path)

        rotated = call(tmp_path, "key", "rotate", "--now")
        kids = [kid for _, kid in listed_keys(tmp_path)]
        wait_until(lambda: publishes(url, kids))

    assert [use for use, _ in before] == ["present", "next"] * 2  # of ES256 and RS256
    assert f"ES256: signing with {before[1][1]}" in rotated.stdout
    assert f"RS256: signing with {before[3][1]}" in rotated.stdout
    after = listed_keys(tmp_path)
    assert [use for use, _ in after] == ["present", "next", "former"] * 2
    assert (after[2][1], after[5][1]) == (before[0][1], before[2][1])
    assert [kid for _, kid in after] == kids


def test_rotation_is_refused_before_the_key_is_public(tmp_path: Path) -> None:
    call(tmp_path, "key", "create")
    before = listed_keys(tmp_path)

    refused = run(tmp_path, "key", "rotate")

    assert refused.returncode == 1
    assert "public for less than 900 seconds" in refused.stderr
    assert "--now" in refused.stderr
    assert listed_keys(tmp_path) == before


def test_published_key_may_sign_after_its_time(tmp_path: Path) -> None:
    """In a file of an older broker, the time of the file stands for that of its keys."""
    call(tmp_path, "key", "create")
    path = tmp_path / "scan-login-keys.json"
    content = json.loads(path.read_text())
    for key in (content["present"], content["next"]):
        del key["published_at"]
    del content["rings"]
    path.write_text(json.dumps(content))
    os.utime(path, (0, 0))

    assert call(tmp_path, "key", "rotate").returncode == 0


def listed_keys(folder: Path) -> list[tuple[str, str]]:
    """Return the use and the kid of each key."""
    rows = [line.split() for line in call(folder, "key", "list").stdout.splitlines()]
    assert rows[0] == ["USE", "ALG", "KID", "PUBLISHED"]
    return [(row[0], row[2]) for row in rows[1:]]


def publishes(url: str, kids: list[str]) -> bool:
    with urllib.request.urlopen(f"{url}/.well-known/jwks.json") as response:
        published = response.read().decode()
    return all(kid in published for kid in kids)


def test_key_create_keeps_existing_files(tmp_path: Path) -> None:
    assert call(tmp_path, "key", "create").returncode == 0
    names = ("scan-login-keys.json", "scan-login-seal.json")
    created = [(tmp_path / name).read_bytes() for name in names]

    assert call(tmp_path, "key", "create").returncode == 0

    assert [(tmp_path / name).read_bytes() for name in names] == created
    assert all((tmp_path / name).stat().st_mode & 0o777 == 0o600 for name in names)


def test_key_list_and_rotate_create_no_file(tmp_path: Path) -> None:
    for word in ("list", "rotate"):
        done = call(tmp_path, "key", word)

        assert done.returncode == 1
        assert f"there are no keys in {tmp_path}/scan-login-keys.json" in done.stderr
        assert not (tmp_path / "scan-login-keys.json").exists()


def test_provider_check_prints_error_and_remedy(tmp_path: Path) -> None:
    checked = run(tmp_path, "provider", "check")
    assert (checked.returncode, checked.stdout) == (0, "the provider pretend draws codes\n")

    with wechat_serving() as url:
        wechat_settings = {
            "SCAN_LOGIN_PROVIDER": "wechat",
            "SCAN_LOGIN_WECHAT_APPID": APPID,
            "SCAN_LOGIN_WECHAT_SECRET": SECRET,
            "SCAN_LOGIN_WECHAT_API_URL": url,
        }
        checked = call(tmp_path, "provider", "check", **wechat_settings)
        assert (checked.returncode, checked.stdout) == (0, "the provider wechat draws codes\n")
        for name, value, errcode, remedy in [
            ("SECRET", "hunter2", "40125", "the secret does not belong to this appid"),
            ("APPID", "wx" + "0" * 16, "40013", "the appid is not that of a mini program"),
            ("PAGE", "pages/none", "41030", "the released mini program has no such page"),
        ]:
            checked = call(
                tmp_path,
                "provider",
                "check",
                **{**wechat_settings, f"SCAN_LOGIN_WECHAT_{name}": value},
            )
            assert checked.returncode == 1
            [line] = checked.stderr.splitlines()
            assert f"failed with {errcode}" in line
            assert "rid: " in line
            assert remedy in line
            assert "hunter2" not in line


def test_demo_names_an_invalid_setting(tmp_path: Path) -> None:
    refused = call(tmp_path, "demo", SCAN_LOGIN_INTERVAL="x")

    assert refused.returncode == 1
    assert "SCAN_LOGIN_INTERVAL" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("name", ["PORT", "SITE_PORT", "PHONE_PORT", "WECHAT_PORT"])
def test_demo_refuses_an_invalid_port(tmp_path: Path, name: str) -> None:
    refused = call(tmp_path, "demo", **{name: "99999"})

    assert refused.returncode == 2
    assert name in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("words", [["serve"], ["key", "list"], ["key", "rotate"]])
def test_damaged_key_file_is_named(tmp_path: Path, words: list[str]) -> None:
    keys = tmp_path / "scan-login-keys.json"
    keys.write_text("{")
    keys.chmod(0o600)

    refused = call(tmp_path, *words, SCAN_LOGIN_PORT="0", SCAN_LOGIN_ADMIN_PORT="0")

    assert refused.returncode == 1
    assert "scan-login-keys.json is damaged" in refused.stderr
    assert "Traceback" not in refused.stderr
