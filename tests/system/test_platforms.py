"""deploy/render.yaml and deploy/fly.toml agree with the image and with the settings."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from broker.infrastructure.runtime.settings import ServerSettings
from broker.providers.settings import ProviderSettings
from broker.settings import find_values, load_settings
from tests.support.deployment import DEPLOY, variables_of_image
from tests.support.environment import ROOT

[RENDER] = yaml.safe_load((DEPLOY / "render.yaml").read_text())["services"]
FLY: dict[str, Any] = tomllib.loads((DEPLOY / "fly.toml").read_text())
SECRETS = {"SCAN_LOGIN_WECHAT_SECRET": "AppSecret"}
"""The operator enters these at the platform."""

VARIABLES = {
    "render": {item["key"]: item["value"] for item in RENDER["envVars"] if "value" in item},
    "fly": FLY["env"],
}
DOCKERFILE = (ROOT / "Dockerfile").read_text()
VOLUME = re.findall(r"^VOLUME (\S+)$", DOCKERFILE, re.MULTILINE)


@pytest.mark.parametrize("platform", VARIABLES)
def test_settings_of_platform_are_valid(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {**variables_of_image(), **VARIABLES[platform], **SECRETS}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    settings = load_settings()

    assert find_values().unknown == []
    assert settings[ProviderSettings].provider == "wechat"
    assert settings[ServerSettings].public_url == "https://login.example"


def test_disks_are_at_volume_of_image() -> None:
    [mount] = FLY["mounts"]

    assert [RENDER["disk"]["mountPath"]] == VOLUME
    assert [mount["destination"]] == VOLUME


def test_one_instance_runs_always() -> None:
    """A disk belongs to one instance, and an instance that stops loses its state."""
    assert (RENDER["numInstances"], RENDER["plan"] != "free") == (1, True)
    service = FLY["http_service"]
    assert (service["min_machines_running"], service["auto_stop_machines"]) == (1, "off")


def test_platforms_send_requests_to_port_of_broker() -> None:
    render = VARIABLES["render"]

    assert render["PORT"] == render["SCAN_LOGIN_PORT"]
    assert FLY["http_service"]["internal_port"] == ServerSettings.model_fields["port"].default


def test_platforms_wait_for_drain_and_readiness() -> None:
    [check] = FLY["http_service"]["checks"]

    assert RENDER["healthCheckPath"] == check["path"] == "/health/ready"
    assert min(RENDER["maxShutdownDelaySeconds"], FLY["kill_timeout"]) >= 12
    assert FLY["kill_signal"] == "SIGTERM"


def test_secrets_of_platforms_are_not_in_files() -> None:
    entered = {item["key"] for item in RENDER["envVars"] if item.get("sync") is False}

    assert entered == SECRETS.keys()
    assert SECRETS.keys() & FLY["env"].keys() == set()


def test_dockerfile_of_platforms_exists() -> None:
    paths = {Path(RENDER["dockerfilePath"]), Path(FLY["build"]["dockerfile"])}

    assert paths == {Path("Dockerfile")}
    assert json.loads(re.findall(r"^CMD (.+)$", DOCKERFILE, re.MULTILINE)[-1]) == ["serve"]
