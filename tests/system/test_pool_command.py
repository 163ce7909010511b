"""The command `scan-login pool`."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from broker.apps.errors import UnknownApp
from broker.cli.pool_acts import STATE_UNREACHABLE_NOTE
from tests.support.commands import COMMAND, Call, CommandResult, run
from tests.support.environment import free_port
from tests.support.servers.redis import Engines
from tests.support.wechat import pretending

FAST = ("--rate", "4500")


def pictures() -> list[str]:
    return sorted(os.listdir("scan-login-pictures"))


def counts(call: Call) -> dict[str, object]:
    [item] = json.loads(call("pool", "status", "--json").text)
    return dict(item)


def rows(status: CommandResult) -> list[list[str]]:
    """Return the rows of `pool status`."""
    return [line.split() for line in status.text.splitlines()[1:]]


def test_pool_is_filled_verified_and_retired(call: Call) -> None:
    filled = call("pool", "fill", "--count", "12", *FAST)
    repeated = call("pool", "fill", "--count", "12", *FAST)
    verified = call("pool", "verify")
    before = pictures()

    retired = call("pool", "retire", "1", "3-5", "70", "--yes")
    status = call("pool", "status")
    after = pictures()
    refilled = call("pool", "fill", "--count", "12", *FAST)

    assert "12 codes were drawn; 12 of 12 are ready" in filled.text
    assert "0 codes were drawn; 12 of 12 are ready" in repeated.text
    assert "all ready codes of default can be shown" in verified.text
    assert "4 codes of default are retired" in retired.text
    assert rows(status) == [["default", "8", "0", "4", "-", "-", "-", "0", "0"]]
    assert (len(before), len(after)) == (12, 8)
    assert "4 codes were drawn; 12 of 12 are ready" in refilled.text
    assert (counts(call)["ready"], counts(call)["retired"]) == (12, 4)
    assert {item.code for item in (filled, repeated, verified, retired, status, refilled)} == {0}


def test_new_app_with_reused_id_gets_new_pool(call: Call) -> None:
    fill = ("pool", "fill", "--app", "site", "--count", "2", *FAST)
    call("app", "add", "site", "--code-source", "pool")
    call(*fill)
    before = counts(call)
    call("app", "remove", "site", "--yes")
    removed = counts(call)
    call("app", "add", "site", "--code-source", "pool")

    filled = call(*fill)
    retired = call("pool", "retire", "--app", str(removed["app"]), "--all", "--yes")

    rows = {row["app"]: row for row in json.loads(call("pool", "status", "--json").text)}
    assert before["app"] == "site"
    assert str(removed["app"]).startswith("site~")
    assert "2 codes were drawn; 2 of 2 are ready" in filled.text
    assert retired.code == 0
    assert {app: row["ready"] for app, row in rows.items()} == {"site": 2, removed["app"]: 0}
    assert len(pictures()) == 2


def test_pool_commands_print_no_scene(call: Call, capfd: pytest.CaptureFixture[str]) -> None:
    results = call("pool", "fill", "--count", "3", *FAST)
    with closing(sqlite3.connect("scan-login.db")) as database:
        scenes = [scene for (scene,) in database.execute("SELECT scene FROM codes")]
    (Path("scan-login-pictures") / pictures()[0]).write_bytes(b"")
    outputs = [
        results,
        *(call("pool", *words) for words in (["status"], ["verify"], ["retire", "--all"])),
    ]

    assert len(scenes) == 3
    assert not [scene for scene in scenes if scene in f"{outputs}{capfd.readouterr()}{pictures()}"]


def test_verify_names_broken_picture_and_remedy(call: Call) -> None:
    call("pool", "fill", "--count", "3", *FAST)
    (Path("scan-login-pictures") / pictures()[0]).write_bytes(b"")

    broken = call("pool", "verify")
    remedy = broken.text.partition("1 codes cannot be shown: run scan-login ")[2]
    repaired = call(*remedy.split(), "--yes")

    assert broken.code == 1
    assert "image is empty" in broken.text
    assert "1 codes of default are retired" in repaired.text
    call("pool", "fill", "--count", "3", *FAST)
    assert call("pool", "verify").code == 0


def test_verify_finds_code_for_another_page(call: Call) -> None:
    call("pool", "fill", "--count", "1", *FAST)

    moved = call("pool", "verify", SCAN_LOGIN_PHONE_PAGE_URL="http://moved.example/")

    assert "0: picture differs from a new drawing of its scene" in moved.text


def test_codes_are_retired_by_age_or_all(call: Call) -> None:
    call("pool", "fill", "--count", "3", *FAST)

    young = call("pool", "retire", "--older-than", "1")
    old = call("pool", "retire", "--older-than", "0", "--yes")
    call("pool", "fill", "--count", "3", *FAST)
    kept_codes = call("pool", "retire", "--all", stdin="n\n")
    removed = call("pool", "retire", "--all", stdin="y\n")

    assert "0 codes of default are retired" in young.text
    assert "3 codes of default are retired" in old.text
    assert (kept_codes.code, removed.code) == (1, 0)
    assert "Retire 3 codes of default?" in kept_codes.text
    assert (counts(call)["ready"], counts(call)["retired"], pictures()) == (0, 6, [])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["fill", "--count", "1", "--app", "unknown"], str(UnknownApp("unknown"))),
        (["retire"], "give one of: numbers, --older-than, --all"),
        (["retire", "1", "--all"], "give one of: numbers, --older-than, --all"),
        (["retire", "one"], "'one' is not a number or a range such as 20-29"),
        (["retire", "1-"], "'1-' is not a number or a range such as 20-29"),
        (["fill", "--count", "0"], "greater than or equal to 1"),
        (["fill", "--count", "1", "--rate", "5000"], "less than or equal to 4500"),
    ],
)
def test_invalid_pool_command_is_refused(call: Call, words: list[str], sentence: str) -> None:
    refused = call("pool", *words)

    assert refused.code != 0
    assert sentence in " ".join(refused.text.split())


def test_pool_of_removed_app_is_retired_by_key(call: Call) -> None:
    call("app", "add", "site")
    call("pool", "fill", "--app", "site", "--count", "2", *FAST)
    call("app", "remove", "site", "--yes")

    key = str(counts(call)["app"])
    retired = call("pool", "retire", "--app", key, "--all", "--yes")

    assert key.startswith("site~")
    assert f"2 codes of {key} are retired" in retired.text


def test_reached_state_gets_codes_immediately(call: Call, engines: Engines) -> None:
    engines.empty("redis")
    state_settings = {
        "SCAN_LOGIN_STATE_URL": engines.url("redis"),
        "SCAN_LOGIN_CODE_SOURCE": "pool",
    }

    filled = call("pool", "fill", "--count", "3", *FAST, **state_settings)
    full = call("pool", "status", **state_settings)
    call("pool", "retire", "1", "--yes", **state_settings)
    [status_left] = json.loads(call("pool", "status", "--json", **state_settings).text)

    assert STATE_UNREACHABLE_NOTE not in filled.text
    assert rows(full)[0][4:7] == ["3", "0", "0"]
    assert status_left["state"] == {"free": 2, "leased": 0, "resting": 0}
    # A screen may show the code, so the brokers delete the picture later.
    assert (status_left["leftover"], len(pictures())) == (1, 3)


def test_unreachable_state_is_reported(call: Call) -> None:
    unreachable_state = {"SCAN_LOGIN_STATE_URL": f"redis://127.0.0.1:{free_port()}"}

    results = [call("pool", "fill", "--count", "1", *FAST), call("pool", "retire", "0", "--yes")]
    results += [call("pool", "fill", "--count", "1", *FAST, **unreachable_state)]

    assert [STATE_UNREACHABLE_NOTE in item.text for item in results] == [True, True, True]
    assert "1 of 1 are ready" in results[-1].text
    assert rows(call("pool", "status", **unreachable_state))[0][4:7] == ["-", "-", "-"]


def test_invalid_picture_settings_are_refused(call: Call) -> None:
    wrong = call("config", "check", SCAN_LOGIN_PICTURES_URL="memory://")
    endpoint = call("config", "check", SCAN_LOGIN_PICTURES_ENDPOINT="https://s3.example")
    public = call("config", "check", SCAN_LOGIN_PICTURES_PUBLIC_URL="cdn.example")

    assert (
        "SCAN_LOGIN_PICTURES_URL: use a URL such as file:///var/lib/scan-login/pict" in wrong.text
    )
    assert "SCAN_LOGIN_PICTURES_ENDPOINT: an endpoint requires SCAN_LOGIN_PIC" in endpoint.text
    assert "SCAN_LOGIN_PICTURES_PUBLIC_URL: use an http or https URL" in public.text


def test_pictures_are_next_to_the_database_by_default(call: Call, tmp_path: Path) -> None:
    def pictures_url(**variables: str) -> str:
        shown = json.loads(call("config", "show", "pictures_url", "--json", **variables).text)
        return str(shown["pictures_url"]["value"])

    here = (tmp_path / "scan-login-pictures").as_uri()
    sqlite = "sqlite+aiosqlite:////var/lib/x/records.db"
    assert pictures_url() == here
    assert pictures_url(SCAN_LOGIN_RECORDS_URL="postgresql+asyncpg://u@db/x") == here
    assert pictures_url(SCAN_LOGIN_RECORDS_URL=sqlite) == "file:///var/lib/x/scan-login-pictures"
    assert pictures_url(SCAN_LOGIN_PICTURES_URL="s3://bucket/codes") == "s3://bucket/codes"


async def test_permanent_wechat_error_ends_the_fill(tmp_path: Path) -> None:
    async with pretending() as wechat:
        wechat.wechat.faults.set("getwxacodeunlimit", "45009")
        filling = await asyncio.to_thread(
            run,
            tmp_path,
            *("pool", "fill", "--count", "3"),
            **{f"SCAN_LOGIN_{n.upper()}": str(v) for n, v in wechat.settings().items()},
        )

    assert filling.returncode == 1
    assert "getwxacodeunlimit failed with 45009" in filling.stderr
    assert "WeChat's limit of 5 000 codes a minute" in filling.stderr
    assert "Traceback" not in filling.stderr


async def test_temporary_wechat_error_is_retried(tmp_path: Path) -> None:
    async with pretending() as wechat:
        wechat.wechat.faults.set("getwxacodeunlimit", "503", 4)
        filling = await asyncio.to_thread(
            run,
            tmp_path,
            *("pool", "fill", "--count", "1"),
            **{f"SCAN_LOGIN_{n.upper()}": str(v) for n, v in wechat.settings().items()},
        )

    assert (filling.returncode, filling.stdout) == (0, "1 codes were drawn; 1 of 1 are ready\n")
    assert "waiting: getwxacodeunlimit failed with unreadable (status 503" in filling.stderr


def test_ctrl_c_stops_a_fill_cleanly(tmp_path: Path) -> None:
    filling = subprocess.Popen(
        [*COMMAND, "pool", "fill", "--count", "500", "--rate", "1200"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert filling.stderr is not None
    assert filling.stderr.readline() == "0 of 500 codes are ready\n"

    filling.send_signal(signal.SIGINT)
    output, errors = filling.communicate(timeout=60)

    assert filling.returncode == 0
    assert "of 500 are ready; run the same command to continue" in output
    assert "Traceback" not in errors
    [status] = json.loads(run(tmp_path, "pool", "status", "--json").stdout)
    assert status["reserved"] == 0


def test_fill_on_a_terminal_shows_a_bar(tmp_path: Path) -> None:
    terminal, child_terminal = pty.openpty()
    filling = subprocess.Popen(
        [*COMMAND, "pool", "fill", "--count", "5", *FAST],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=child_terminal,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(child_terminal)

    shown = b"".join(read_all(terminal))

    assert filling.wait(timeout=60) == 0
    assert "5/5" in shown.decode()
    assert "━" in shown.decode()


def read_all(file: int) -> Iterator[bytes]:
    """Read until the other end is closed; Linux reports that as an error."""
    with suppress(OSError):
        while content := os.read(file, 4096):
            yield content
    os.close(file)
