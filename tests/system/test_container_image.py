"""The image and the Compose file name existing files, settings, commands and routes."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import shlex
import sys
import tomllib
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
import yaml
from typer.main import get_command

from broker.app import build
from broker.cli.main import command
from broker.errors import InvalidSettings
from broker.infrastructure.api.settings import APISettings
from broker.infrastructure.runtime.settings import ServerSettings
from broker.infrastructure.settings_sources import PREFIX
from broker.settings import find_values, load_settings
from broker.tokens.settings import TokenSettings
from mp_stub.phone_page import build_phone_page
from tests.support.builders import RunningBroker
from tests.support.environment import ROOT, free_port
from web_demo.site import build_site

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
TRIAL = [name for name, definition in SERVICES.items() if "profiles" not in definition]
"""The services that start without a profile."""


class Step(NamedTuple):
    """One instruction of the Dockerfile."""

    word: str
    rest: str


def dockerfile() -> list[Step]:
    lines = (ROOT / "Dockerfile").read_text().replace("\\\n", "").splitlines()
    parts = [line.partition(" ") for line in lines if line and not line.startswith("#")]
    return [Step(word, rest.strip()) for word, _, rest in parts]


def last(word: str) -> str:
    return [step.rest for step in dockerfile() if step.word == word][-1]


def test_files_copied_into_image_exist_and_are_included() -> None:
    included = (ROOT / ".dockerignore").read_text().splitlines()
    for step in dockerfile():
        if step.word == "COPY" and "--from=" not in step.rest:
            for source in shlex.split(step.rest)[:-1]:
                assert (ROOT / source).exists(), source
                assert f"!{source}" in included, source


def test_image_runs_existing_command_without_root() -> None:
    [program] = json.loads(last("ENTRYPOINT"))
    [verb] = json.loads(last("CMD"))

    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert program in scripts
    assert verb in get_command(command).commands  # type: ignore[attr-defined]
    assert int(last("USER").split(":")[0]) > 0


def test_base_image_is_supported_python() -> None:
    name, _, image = last("ARG").partition("=")
    bases = [step.rest.split(" ")[0] for step in dockerfile() if step.word == "FROM"]
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    [version] = re.findall(r"^python:(3\.\d+)-slim(?:@sha256:[0-9a-f]{64})?$", image)

    assert set(bases) == {f"${{{name}}}"}
    assert f"Programming Language :: Python :: {version}" in classifiers


async def test_health_check_of_image_detects_missing_broker(broker: RunningBroker) -> None:
    [_, *check] = json.loads(last("HEALTHCHECK").partition("CMD")[2])

    async def exit_code(port: int) -> int:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *check,
            env={f"{PREFIX}PORT": str(port)},
            stderr=asyncio.subprocess.DEVNULL,
        )
        return await process.wait()

    assert await exit_code(broker.settings[ServerSettings].port) == 0
    assert await exit_code(free_port()) != 0


def environment_of(service: str) -> dict[str, str]:
    image = re.findall(rf"({PREFIX}\w+)=(\S+)", last("ENV"))
    settings = {**dict(image), **SERVICES[service]["environment"]}
    return {name: value for name, value in settings.items() if value is not None}


@pytest.mark.parametrize("service", ["broker-1", "broker-2"])
def test_compose_has_no_default_admin_token(service: str) -> None:
    environment = SERVICES[service]["environment"]

    assert environment["SCAN_LOGIN_ADMIN_TOKEN"] is None, "the value of the shell or .env"


@pytest.mark.parametrize("service", ["broker-1", "broker-2"])
def test_compose_settings_are_valid(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment_of(service).items():
        monkeypatch.setenv(name, value)

    settings = load_settings()

    assert find_values().unknown == []
    assert {urlsplit(settings[ServerSettings].public_url).netloc} <= published_addresses("nginx")
    address = SERVICES["nginx"]["networks"]["default"]["ipv4_address"]
    assert settings[APISettings].trusted_proxies == (address,)
    assert any(
        mount.endswith(f":{settings[TokenSettings].key_file.parent}") for mount in mounts(service)
    )


def mounts(service: str) -> list[str]:
    return [str(mount) for mount in SERVICES[service].get("volumes", [])]


def published_addresses(service: str) -> set[str]:
    """Return the published addresses of the service: address:port."""
    return {str(port).rpartition(":")[0] for port in SERVICES[service].get("ports", [])}


@pytest.mark.parametrize("service", SERVICES)
def test_names_in_compose_file_exist(service: str) -> None:
    definition = SERVICES[service]

    for mount in mounts(service):
        source = mount.split(":")[0]
        assert source in COMPOSE["volumes"] or (ROOT / source).exists(), source
    assert set(definition.get("depends_on", {})) <= set(SERVICES)
    assert definition.get("network_mode", "service:nginx").removeprefix("service:") in SERVICES
    assert "build" not in definition or (ROOT / definition["build"] / "Dockerfile").exists()
    if "entrypoint" in definition:
        assert importlib.util.find_spec(f"{definition['entrypoint'][2]}.__main__")


@pytest.mark.parametrize("service", TRIAL)
def test_compose_publishes_trial_on_loopback_only(service: str) -> None:
    """The pretend provider does not authenticate."""
    assert all(address.startswith("127.0.0.1:") for address in published_addresses(service))


@pytest.mark.parametrize("service", SERVICES)
def test_compose_service_restarts_and_has_health_check(service: str) -> None:
    definition = SERVICES[service]
    assert definition["restart"] == "unless-stopped"
    assert definition["stop_grace_period"] == "15s"
    assert "healthcheck" in definition or definition["image"] == "scan-login"


@pytest.mark.parametrize("service", SERVICES)
def test_compose_service_has_no_privileges(service: str) -> None:
    definition = SERVICES[service]

    assert definition["read_only"] is True
    assert definition["cap_drop"] == ["ALL"]
    assert definition["security_opt"] == ["no-new-privileges:true"]
    if service == "caddy":
        assert definition["cap_add"] == ["NET_BIND_SERVICE"]
        return
    assert "cap_add" not in definition
    assert definition.get("user", "root") != "root" or definition["image"] == "scan-login"


def test_health_checks_name_existing_routes(tmp_path: Path) -> None:
    settings = load_settings(key_file=tmp_path / "keys.json")
    routes = {
        "nginx": build(settings).public,
        "site": build_site(broker_url=settings[ServerSettings].public_url),
        "phone": build_phone_page(broker_url=settings[ServerSettings].public_url),
    }
    for service, application in routes.items():
        [path] = re.findall(
            r"http://127\.0\.0\.1:\d+(/[\w/]*)", " ".join(SERVICES[service]["healthcheck"]["test"])
        )
        known = {
            route.resource.canonical for route in application.router.routes() if route.resource
        }
        assert path in known, f"{service}: {path}"


def filled_in(text: str, **variables: str) -> str:
    """Return `text` with variables in the place of `${NAME:-default}`."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: variables.get(found[1]) or found[2], text)


VARIABLES = {
    "DOMAIN": "id.shop.example",
    "WECHAT_APPID": "wx0123456789abcdef",
    "WECHAT_SECRET": "AppSecret",
}
"""Of the profile `https`, as an operator sets them."""


def set_public_settings(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in environment_of("public-broker").items():
        monkeypatch.setenv(name, filled_in(value, **variables))


def test_compose_settings_of_https_are_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    set_public_settings(monkeypatch, **VARIABLES)

    settings = load_settings()

    assert find_values().unknown == []
    assert settings[ServerSettings].public_url == "https://id.shop.example"
    address = SERVICES["caddy"]["networks"]["default"]["ipv4_address"]
    assert settings[APISettings].trusted_proxies == (address,)


def test_compose_https_requires_a_mini_program(monkeypatch: pytest.MonkeyPatch) -> None:
    set_public_settings(monkeypatch, DOMAIN="id.shop.example")

    with pytest.raises(InvalidSettings, match="WECHAT_APPID"):
        load_settings()


def test_compose_https_uses_variables_of_caddyfile() -> None:
    caddyfile = (ROOT / "deploy/Caddyfile").read_text()
    names = set(re.findall(r"\{\$(\w+):", caddyfile))
    service, _, port = SERVICES["caddy"]["environment"]["BROKERS"].partition(":")

    assert SERVICES["caddy"]["environment"].keys() == names
    assert service in SERVICES["caddy"]["depends_on"]
    assert port == last("EXPOSE")
    assert {name for name in SERVICES if "profiles" in SERVICES[name]} == {"caddy", service}


def test_compose_nginx_lists_all_brokers() -> None:
    text = (ROOT / "deploy/compose/brokers.conf").read_text()
    named = re.findall(r"^server ([\w-]+):8000 max_fails=0;$", text, re.MULTILINE)
    assert set(named) == {name for name in SERVICES if name.startswith("broker")}
