"""The examples of docs/deploy.md run with changed folders, hosts and ports only."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from tests.support.commands import run
from tests.support.deployment import example_of, move_below, variables_of_image
from tests.support.environment import ROOT

PAGE = (ROOT / "docs/deploy.md").read_text()
INSTALL = example_of(PAGE, "sh", "python3 -m venv")


@pytest.mark.parametrize("service", ["broker-1", "broker-2"])
def test_compose_settings_pass_config_check(tmp_path: Path, service: str) -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    settings = {**variables_of_image(), **compose["services"][service]["environment"]}
    (tmp_path / "var/lib/scan-login").mkdir(parents=True)

    moved = {name: move_below(value, tmp_path) for name, value in settings.items() if value}
    done = run(tmp_path, "config", "check", "--json", **moved)

    assert json.loads(done.stdout)["mistakes"] == []


def test_installation_names_files_that_exist() -> None:
    python, pip, version = (shlex.split(line) for line in INSTALL.splitlines())

    assert python == ["python3", "-m", "venv", "/opt/scan-login"]
    assert pip[1:] == ["install", "-c", "constraints.txt", "."]
    assert (ROOT / "constraints.txt").exists()
    scripts = re.findall(r"^(\S+) = \"broker", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert Path(version[0]).name in scripts
