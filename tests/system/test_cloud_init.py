"""deploy/cloud-init.yaml contains the other files of deploy/ and a valid script."""

from __future__ import annotations

import re
import subprocess

import pytest
import yaml

from broker import __version__
from tests.support.deployment import DEPLOY

CONFIGURATION = yaml.safe_load((DEPLOY / "cloud-init.yaml").read_text())
FILES = {item["path"]: item for item in CONFIGURATION["write_files"]}
SCRIPT = "/usr/local/sbin/install-scan-login"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/etc/scan-login/env", "scan-login.env"),
        ("/etc/caddy/Caddyfile", "Caddyfile"),
        ("/etc/systemd/system/scan-login.service", "scan-login.service"),
    ],
)
def test_written_file_is_the_shipped_one(path: str, name: str) -> None:
    assert FILES[path]["content"] == (DEPLOY / name).read_text()


def test_settings_are_readable_by_root_only() -> None:
    assert FILES["/etc/scan-login/env"]["permissions"] == "0640"


def test_script_is_executable_and_run() -> None:
    assert FILES[SCRIPT]["permissions"] == "0755"
    assert CONFIGURATION["runcmd"] == [[SCRIPT]]


def test_script_has_valid_syntax() -> None:
    done = subprocess.run(
        ["sh", "-n"], input=FILES[SCRIPT]["content"], text=True, capture_output=True, timeout=90
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_script_installs_this_version_for_the_unit() -> None:
    script = FILES[SCRIPT]["content"]
    [version] = re.findall(r"^version=(.+)$", script, re.MULTILINE)
    [folder] = re.findall(r"^python3 -m venv (.+)$", script, re.MULTILINE)

    assert version == __version__
    unit = FILES["/etc/systemd/system/scan-login.service"]["content"]
    assert f"ExecStart={folder}/bin/scan-login serve\n" in unit


def test_script_starts_caddy_before_the_broker() -> None:
    """The broker does not start with the placeholder of the AppSecret."""
    script = FILES[SCRIPT]["content"]

    assert script.index("reload-or-restart caddy") < script.index("restart scan-login")
