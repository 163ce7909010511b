"""deploy/cloud-init.yaml and the schema of cloud-init."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.deployment import DEPLOY
from tests.support.environment import need

pytestmark = pytest.mark.deployment

FILE = DEPLOY / "cloud-init.yaml"


def checked(file: Path) -> subprocess.CompletedProcess[str]:
    command = [need("cloud-init"), "schema", "--config-file", str(file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_cloud_init_accepts_shipped_file() -> None:
    done = checked(FILE)

    assert done.returncode == 0, done.stderr
    assert "Valid cloud-config" in done.stdout


def test_cloud_init_refuses_broken_copy(tmp_path: Path) -> None:
    copy = tmp_path / "cloud-init.yaml"
    copy.write_text(FILE.read_text().replace('permissions: "0640"', "permissions: 0640", 1))

    assert checked(copy).returncode == 1
