"""No error, log line or output repeats any part of a password that is in a URL."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from threading import Timer
from urllib.parse import quote

import pytest

from broker.infrastructure.urls import check_server_url, hide_passwords
from tests.support.commands import COMMAND, LIMIT, call
from tests.support.environment import free_port
from tests.support.servers.redis import redis_program, running

HEAD, TAIL = "canaryhead", "canarytail"
"""Halves of a password that contains a URL separator. Neither half may be printed or logged."""

SEPARATORS = ["@", "/", "#", "?", "[", "]", ":", "&", "%", "=", "\N{CARE OF}", " "]

URLS = {
    "RECORDS_URL": [
        "postgresql+asyncpg://user:{0}@127.0.0.1:{1}/scanlogin",
        "postgresql+asyncpg://user@127.0.0.1:{1}/scanlogin?password={0}",
        "postgresql+asyncpg://user:{0}",
    ],
    "STATE_URL": [
        "redis://user:{0}@127.0.0.1:{1}/0",
        "redis+sentinel://user:{0}@127.0.0.1:{1}/mymaster",
        "redis+sentinel://127.0.0.1:{1}/mymaster?sentinel_password={0}",
        "redis+cluster://user:{0}@127.0.0.1:{1}",
        "redis://user:{0}",
    ],
    "BUS_URL": ["redis://user:{0}@127.0.0.1:{1}/0"],
    "DIRECTORY": ["https://user:{0}@site.example/hook"],
    "PUBLIC_URL": ["http://user:{0}@127.0.0.1:8000"],
    "PICTURES_URL": ["s3://user:{0}@bucket"],
    "PICTURES_ENDPOINT": ["https://user:{0}@s3.example"],
    "ORIGINS": ["https://user:{0}@shop.example"],
    "TRUSTED_PROXIES": ["http://user:{0}@10.0.0.1"],
    "PROVIDER": ["wechat://user:{0}@api.example"],
    "WECHAT_API_URL": ["http://user:{0}@api.example"],
}
"""Settings that may contain a URL with a password."""

VALUES_END = {"ORIGINS": " ", "TRUSTED_PROXIES": " "}
"""Separators of settings with several values."""


def assert_clean(text: str) -> None:
    assert HEAD not in text
    assert TAIL not in text


@pytest.mark.parametrize(
    ("name", "form"), [(name, form) for name, forms in URLS.items() for form in forms]
)
def test_config_output_has_no_part_of_a_password(tmp_path: Path, name: str, form: str) -> None:
    for separator in SEPARATORS:
        if separator == VALUES_END.get(name) or (separator == "@" and form.endswith("{0}")):
            continue
        value = form.format(f"{HEAD}{separator}{TAIL}", free_port())

        checked = call(tmp_path, "config", "check", **{f"SCAN_LOGIN_{name}": value})
        output = call(tmp_path, "config", "show", **{f"SCAN_LOGIN_{name}": value})

        assert_clean(checked.stdout + checked.stderr + output.stdout + output.stderr)


@pytest.mark.parametrize("form", URLS["RECORDS_URL"][:1] + URLS["STATE_URL"][:1])
@pytest.mark.parametrize("separator", ["@", "/", "#", "?", "[", "]"])
def test_unescaped_password_is_refused_with_escaping_hint(form: str, separator: str) -> None:
    with pytest.raises(ValueError, match=f"{re.escape(separator)} as %"):
        check_server_url(form.format(f"{HEAD}{separator}{TAIL}", 5432))


@pytest.mark.parametrize("separator", SEPARATORS)
def test_percent_encoded_password_is_accepted(separator: str) -> None:
    password = quote(f"{HEAD}{separator}{TAIL}", safe="")

    for form in URLS["RECORDS_URL"][:2] + URLS["STATE_URL"][:4]:
        check_server_url(form.format(password, 5432))


@pytest.mark.parametrize("separator", SEPARATORS)
def test_unreachable_records_are_reported_without_password(tmp_path: Path, separator: str) -> None:
    for form in URLS["RECORDS_URL"][:2]:
        url = form.format(quote(f"{HEAD}{separator}{TAIL}", safe=""), free_port())

        for words in (["records", "status"], ["app", "list"]):
            done = call(tmp_path, *words, SCAN_LOGIN_RECORDS_URL=url)

            assert done.returncode == 1
            assert "are unavailable" in done.stderr
            assert_clean(done.stdout + done.stderr)


def test_refused_option_is_reported_without_traceback(tmp_path: Path) -> None:
    url = f"postgresql+asyncpg://user:{HEAD}@127.0.0.1:{free_port()}/db?misspelt=1"

    done = call(tmp_path, "records", "status", SCAN_LOGIN_RECORDS_URL=url)

    assert done.returncode == 1
    assert done.stderr == "SCAN_LOGIN_RECORDS_URL: unknown option 'misspelt' in the query"


@pytest.mark.parametrize("form", URLS["STATE_URL"][:4])
def test_unreachable_state_is_logged_without_password(tmp_path: Path, form: str) -> None:
    url = form.format(quote(f"{HEAD}{''.join(SEPARATORS)}{TAIL}", safe=""), free_port())

    assert_clean(serve_until(tmp_path, "redis unavailable", SCAN_LOGIN_STATE_URL=url))


def test_refused_redis_password_is_not_logged(tmp_path: Path) -> None:
    with running(redis_program(), "--requirepass", "another") as redis:
        url = f"redis://default:{HEAD}%40{TAIL}@127.0.0.1:{redis.port}/0"

        assert_clean(serve_until(tmp_path, "redis unavailable", SCAN_LOGIN_STATE_URL=url))


def serve_until(folder: Path, event: str, **variables: str) -> str:
    """Return the output of `serve`, which is stopped when it logs `event`."""
    lines: list[str] = []
    with subprocess.Popen(
        [*COMMAND, "serve", "--port", "0"],
        cwd=folder,
        env={**os.environ, "SCAN_LOGIN_ADMIN_PORT": "0", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        watchdog = Timer(LIMIT, process.kill)  # without the event, the output does not end
        watchdog.start()
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if event in line:
                process.terminate()
        watchdog.cancel()
    assert any(event in line for line in lines)
    return "".join(lines)


def test_password_of_every_url_is_hidden() -> None:
    output = hide_passwords(f"redis://u:{HEAD} {TAIL}@h?sentinel_PASSWORD={HEAD}&db=1")

    assert output == "redis://u:[hidden]@h?sentinel_PASSWORD=[hidden]&db=1"
