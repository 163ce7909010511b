"""deploy/scan-login.service and its settings file."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import LIMIT, run, serving
from tests.support.deployment import DEPLOY, settings_in, trial
from tests.support.environment import free_port, need
from tests.support.logins import logs_in

UNIT = (DEPLOY / "scan-login.service").read_text()
SETTINGS = settings_in((DEPLOY / "scan-login.env").read_text())
REAL = {"SCAN_LOGIN_WECHAT_SECRET": "0123456789abcdef" * 2}
INSTALLED = "/opt/scan-login/bin/scan-login"
PROGRAM = Path(sys.executable).parent / "scan-login"

HIGHEST_EXPOSURE = 4.0
"""Of `systemd-analyze security`, from 0 to 10. systemd 252 calculates 1.7."""


def directives(name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", UNIT, re.MULTILINE)


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [need("systemd-analyze"), *words], capture_output=True, text=True, timeout=LIMIT
    )


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with the program of this environment."""
    file = tmp_path / "scan-login.service"
    file.write_text(UNIT.replace(INSTALLED, str(PROGRAM)))
    return file


def test_systemd_accepts_unit(unit: Path) -> None:
    done = analyze("verify", str(unit))

    messages = [line for line in done.stderr.splitlines() if "scan-login" in line]
    assert (done.returncode, messages) == (0, [])


def test_unit_has_low_exposure(unit: Path) -> None:
    done = analyze("security", "--offline=true", "--no-pager", str(unit))

    [exposure] = re.findall(r"Overall exposure level for \S+ (\d+\.\d)", done.stdout)
    assert float(exposure) <= HIGHEST_EXPOSURE


def test_unit_runs_commands_of_its_installation() -> None:
    commands = [shlex.split(line) for line in directives("ExecStart(?:Pre)?")]

    assert commands == [[INSTALLED, "config", "check"], [INSTALLED, "serve"]]


def test_unit_stops_after_drain() -> None:
    [timeout] = directives("TimeoutStopSec")

    assert int(timeout) >= 10 + 2  # the default of SCAN_LOGIN_DRAIN


def test_shipped_settings_are_valid(tmp_path: Path) -> None:
    done = run(tmp_path, "config", "check", **{**SETTINGS, **REAL})

    assert (done.returncode, done.stderr) == (0, "")


def test_shipped_placeholder_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path, "config", "check", **SETTINGS)

    assert done.returncode == 1
    assert "SCAN_LOGIN_WECHAT_SECRET: this is the placeholder of the example" in done.stderr


async def test_broker_with_shipped_settings_completes_login(tmp_path: Path) -> None:
    """With the pretend provider, because the settings name a mini program of WeChat."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    variables = {**trial(SETTINGS, url), "SCAN_LOGIN_PORT": str(port)}

    with serving(tmp_path, **variables) as (_, line):
        assert f"ready on {url} " in line
        assert await logs_in(url)
