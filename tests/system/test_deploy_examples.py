"""The examples of docs/deploy.md run with changed folders, hosts and ports only."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
import yaml

from tests.support.commands import COMMAND, LIMIT, wechat_serving
from tests.support.environment import ROOT, free_port, need
from tests.support.servers.postgres import PostgresServer
from tests.support.servers.redis import Engines

DEPLOY = (ROOT / "docs" / "deploy.md").read_text()
PROGRAM = Path(sys.executable).parent / "scan-login"


def example_of(language: str, start: str) -> str:
    """Return the example in `language` that begins with `start`."""
    blocks = re.findall(rf"```{language}\n(.*?)```", DEPLOY, re.DOTALL)
    [example] = [block for block in blocks if block.startswith(start)]
    return str(example)


UNIT = example_of("ini", "# /etc/systemd/system/scan-login.service")
MANIFEST = example_of("yaml", "apiVersion: v1")
SECRET = example_of("sh", "scan-login key create")
INSTALL = example_of("sh", "python3 -m venv")


@pytest.fixture(scope="module")
def wechat() -> Iterator[str]:
    with wechat_serving() as url:
        yield url


def environment(folder: Path, settings: Mapping[str, str], wechat: str) -> dict[str, str]:
    """Return an example's settings with free ports and the WeChat stub."""
    test_settings = {
        "SCAN_LOGIN_PORT": str(free_port()),
        "SCAN_LOGIN_ADMIN_PORT": str(free_port()),
        "SCAN_LOGIN_WECHAT_API_URL": wechat,
    }
    return {**os.environ, **settings, **test_settings}


def run(words: list[str], folder: Path, env: Mapping[str, str]) -> str:
    done = subprocess.run(
        words, cwd=folder, env=env, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def served(words: list[str], folder: Path, env: Mapping[str, str]) -> Iterator[str]:
    """Run a broker until the end of the block; yields its ready line."""
    with subprocess.Popen(words, cwd=folder, env=env, stdout=subprocess.PIPE, text=True) as process:
        watchdog = Timer(LIMIT, process.kill)
        watchdog.start()
        try:
            assert process.stdout is not None
            yield process.stdout.readline()
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()
            watchdog.cancel()
    assert process.returncode == 0


def status(port: str, path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=90) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


# ---- systemd ----


def directives(unit: str, name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", unit, re.MULTILINE)


@pytest.fixture
def unit(tmp_path: Path) -> str:
    """The systemd unit with the folders of this test."""
    for name in ("state", "credentials"):
        (tmp_path / name).mkdir()
    (tmp_path / "credentials" / "wechat-secret").write_text("AppSecret\n")
    changes = {
        "/opt/scan-login/bin/scan-login": str(PROGRAM),
        "/var/lib/scan-login": f"{tmp_path}/state",
        "/etc/scan-login": f"{tmp_path}/credentials",
    }
    text = UNIT
    for old, new in changes.items():
        text = text.replace(old, new)
    return text


def test_systemd_unit_starts_as_printed(unit: str, tmp_path: Path, wechat: str) -> None:
    settings = dict(
        line.replace("%d", f"{tmp_path}/credentials").split("=", 1)
        for line in directives(unit, "Environment")
    )
    env = environment(tmp_path, settings, wechat)
    [folder] = directives(unit, "WorkingDirectory")

    [check], [start] = directives(unit, "ExecStartPre"), directives(unit, "ExecStart")
    assert "the settings are valid" in run(shlex.split(check), Path(folder), env)
    with served(shlex.split(start), Path(folder), env) as line:
        assert "ready on" in line
        assert status(env["SCAN_LOGIN_PORT"], "/health/ready") == 200


def test_systemd_unit_is_accepted_by_systemd(unit: str, tmp_path: Path) -> None:
    file = tmp_path / "scan-login.service"
    file.write_text(unit)

    done = subprocess.run(
        [need("systemd-analyze"), "verify", str(file)],
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )

    test_settings = [line for line in done.stderr.splitlines() if "scan-login" in line]
    assert (done.returncode, test_settings) == (0, [])


def test_systemd_unit_reads_its_credential(unit: str) -> None:
    """`%d` holds the files that LoadCredential names."""
    names = [line.partition(":")[0] for line in directives(unit, "LoadCredential")]

    assert re.findall(r"%d/(\S+)", unit) == names


# ---- Kubernetes ----


def manifest(kind: str) -> dict[str, Any]:
    [found] = [item for item in yaml.safe_load_all(MANIFEST) if item["kind"] == kind]
    return dict(found)


POD = manifest("Deployment")["spec"]["template"]["spec"]
[BROKER] = POD["containers"]
[INIT] = POD["initContainers"]


def image_environment() -> dict[str, str]:
    dockerfile = (ROOT / "Dockerfile").read_text().replace("\\\n", "")
    return dict(re.findall(r"(SCAN_LOGIN_\w+)=(\S+)", dockerfile))


@pytest.fixture
def pod(
    tmp_path: Path,
    engines: Engines,
    postgres: PostgresServer,
    wechat: str,
) -> tuple[Path, dict[str, str]]:
    """The folder of a pod, with its Secret and initialized files, and its environment."""
    secrets, data = tmp_path / "run/secrets/scan-login", tmp_path / "var/lib/scan-login"
    secrets.mkdir(parents=True)
    data.mkdir(parents=True)
    create, kubectl = SECRET.replace("\\\n", "").splitlines()
    run([*COMMAND, *shlex.split(create)[1:]], tmp_path, os.environ)
    servers = {"state": engines.url("redis"), "records": postgres.new_database()}
    for option in shlex.split(kubectl):
        kind, _, rest = option.partition("=")
        name, _, value = rest.partition("=")
        if kind == "--from-file":
            (secrets / name).write_bytes((tmp_path / value).read_bytes())
        elif kind == "--from-literal":
            (secrets / name).write_text(servers.get(name, value))
    run([move_below(word, tmp_path) for word in INIT["command"]], tmp_path, os.environ)
    container_variables = {item["name"]: item["value"] for item in BROKER["env"]}
    settings = {
        name: move_below(value, tmp_path)
        for name, value in {**image_environment(), **container_variables}.items()
    }
    test_hosts = {"SCAN_LOGIN_HOST": "127.0.0.1", "SCAN_LOGIN_ADMIN_HOST": "127.0.0.1"}
    return data, environment(tmp_path, {**settings, **test_hosts}, wechat)


def move_below(text: str, root: Path) -> str:
    """Return `text` with the image's folders below `root`."""
    return re.sub(r"/(run/secrets|var/lib)/scan-login", rf"{root}/\1/scan-login", text)


def test_kubernetes_pod_starts_as_printed(pod: tuple[Path, dict[str, str]]) -> None:
    folder, env = pod
    keys = (folder / "keys.json").read_bytes()

    assert "the settings are valid" in run([*COMMAND, "config", "check"], folder, env)
    with served([*COMMAND, *BROKER["args"]], folder, env) as line:
        assert "ready on" in line
        for probe in ("livenessProbe", "readinessProbe"):
            assert status(env["SCAN_LOGIN_PORT"], BROKER[probe]["httpGet"]["path"]) == 200
        assert status(env["SCAN_LOGIN_ADMIN_PORT"], "/metrics") == 200
    assert (folder / "keys.json").read_bytes() == keys


def test_kubernetes_secrets_are_valid_as_printed(tmp_path: Path) -> None:
    """The URLs of the Secret, with their placeholder passwords."""
    literals = dict(re.findall(r"--from-literal=(state|records)='([^']+)'", SECRET))
    env = {
        **os.environ,
        "SCAN_LOGIN_STATE_URL": literals["state"],
        "SCAN_LOGIN_RECORDS_URL": literals["records"],
    }

    assert "the settings are valid" in run([*COMMAND, "config", "check"], tmp_path, env)


def test_kubernetes_manifest_references_defined_objects() -> None:
    service, deployment = manifest("Service")["spec"], manifest("Deployment")["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    ports = {item["name"]: item["containerPort"] for item in BROKER["ports"]}
    volumes = {item["name"] for item in POD["volumes"]}

    assert (
        service["selector"] == manifest("Deployment")["spec"]["selector"]["matchLabels"] == labels
    )
    assert {item["targetPort"] for item in service["ports"]} <= ports.keys()
    assert ports == {"http": 8000, "metrics": 9000}
    for container in (BROKER, INIT):
        assert {item["name"] for item in container["volumeMounts"]} <= volumes
    assert {BROKER[probe]["httpGet"]["port"] for probe in ("livenessProbe", "readinessProbe")} == {
        "http"
    }


def test_kubernetes_pod_has_time_to_drain() -> None:
    drain = next(
        float(item["value"]) for item in BROKER["env"] if item["name"] == "SCAN_LOGIN_DRAIN"
    )

    assert POD["terminationGracePeriodSeconds"] >= drain + 10


def test_kubernetes_pod_has_no_service_links() -> None:
    assert POD["enableServiceLinks"] is False


def test_kubernetes_pod_runs_as_user_of_image() -> None:
    user = re.findall(r"^USER (\d+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)

    assert str(POD["securityContext"]["runAsUser"]) == user[0]


# ---- Compose, installation ----


@pytest.mark.parametrize("service", ["broker-1", "broker-2"])
def test_compose_settings_pass_config_check(tmp_path: Path, service: str) -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    settings = {**image_environment(), **compose["services"][service]["environment"]}
    values = {name: move_below(value, tmp_path) for name, value in settings.items() if value}
    env = {**os.environ, **values}
    (tmp_path / "var/lib/scan-login").mkdir(parents=True)

    done = run([*COMMAND, "config", "check", "--json"], tmp_path, env)

    assert json.loads(done)["mistakes"] == []


def test_installation_names_files_that_exist() -> None:
    python, pip, version = (shlex.split(line) for line in INSTALL.splitlines())

    assert python == ["python3", "-m", "venv", "/opt/scan-login"]
    assert pip[1:] == ["install", "-c", "constraints.txt", "."]
    assert (ROOT / "constraints.txt").exists()
    scripts = re.findall(r"^(\S+) = \"broker", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert Path(version[0]).name in scripts
