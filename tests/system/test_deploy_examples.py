"""The examples of the pages about installation and deployment agree with the code."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from tests.support.commands import run
from tests.support.deployment import example_of, move_below, settings_in, variables_of_image
from tests.support.environment import ROOT

NAMES = ("install", "deploy", "reverse-proxies")
PAGES = {name: (ROOT / f"docs/{name}.md").read_text() for name in NAMES}
INSTALL = example_of(PAGES["install"], "sh", "/usr/bin/python3")
RUN = example_of(PAGES["install"], "sh", "docker build").replace("\\\n", "").splitlines()[1]
VARIABLES = example_of(PAGES["deploy"], "sh", "DOMAIN=")
PROVIDER = {"SCAN_LOGIN_PROVIDER", "SCAN_LOGIN_WECHAT_APPID", "SCAN_LOGIN_WECHAT_SECRET"}
SECRETS = {
    "SCAN_LOGIN_STATE_URL_FILE": "redis://:password@redis:6379/0",
    "SCAN_LOGIN_RECORDS_URL_FILE": "postgresql+asyncpg://scanlogin:password@postgres/scanlogin",
    "SCAN_LOGIN_WECHAT_SECRET_FILE": "0123456789abcdef" * 2,
}
"""The contents of the files that the examples name."""


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

    assert python == ["/usr/bin/python3", "-m", "venv", "/opt/scan-login"]
    assert pip[1:] == ["install", "-c", "constraints.txt", "."]
    assert (ROOT / "constraints.txt").exists()
    scripts = re.findall(r"^(\S+) = \"broker", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert Path(version[0]).name in scripts


@pytest.mark.parametrize("name", NAMES)
def test_examples_with_a_public_url_name_the_provider(name: str) -> None:
    blocks = re.findall(r"```\w+\n(.*?)```", PAGES[name], re.DOTALL)
    examples = [block for block in blocks if re.search(r"(?i:public_url)(=|: )", block)]

    assert examples
    for example in examples:
        names = {name.removesuffix("_FILE") for name in re.findall(r"SCAN_LOGIN_\w+", example)}
        values = yaml.safe_load(example) if example.startswith("# values.yaml") else {}
        groups = [values.get("settings", {}), values.get("secret", {}).get("settings", {})]
        names |= {f"SCAN_LOGIN_{name.upper()}" for group in groups for name in group}
        assert names >= PROVIDER, example


def test_printed_container_has_valid_settings(tmp_path: Path) -> None:
    words = shlex.split(RUN)
    given = dict(words[n + 1].split("=", 1) for n, word in enumerate(words) if word == "--env")
    (tmp_path / "var/lib/scan-login").mkdir(parents=True)
    settings = {**variables_of_image(), **given}

    moved = {name: move_below(value, tmp_path) for name, value in settings.items()}
    moved["SCAN_LOGIN_WECHAT_SECRET"] = "0123456789abcdef" * 2

    assert run(tmp_path, "config", "check", **moved).returncode == 0


@pytest.mark.parametrize("name", ["deploy", "reverse-proxies"])
def test_printed_settings_pass_config_check(tmp_path: Path, name: str) -> None:
    settings = settings_in(example_of(PAGES[name], "sh", "SCAN_LOGIN_PUBLIC_URL="))
    moved = {one: re.sub("^/", f"{tmp_path}/", value) for one, value in settings.items()}
    for variable in settings.keys() & SECRETS.keys():
        file = Path(moved[variable])
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(SECRETS[variable])

    done = run(tmp_path, "config", "check", "--json", **moved)

    assert json.loads(done.stdout)["mistakes"] == []


def test_printed_variables_are_those_of_compose_file() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    _, _, profile = text.partition("\n  caddy:\n")

    printed = set(re.findall(r"^(\w+)=", VARIABLES, re.MULTILINE))

    assert printed == set(re.findall(r"\$\{(\w+):", profile))


def test_installed_files_exist() -> None:
    names = set(re.findall(r"\bdeploy/[\w.-]+", "".join(PAGES.values())))

    assert {name for name in names if not (ROOT / name.rstrip(".")).exists()} == set()
