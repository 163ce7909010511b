"""The Helm chart: rendered, compared with the schemas of Kubernetes, and its pod as a process."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from helm_python import HelmError

from broker import __version__
from broker.settings import FIELDS
from tests.support.chart import CHART, Object, of_kind, render, render_notes
from tests.support.commands import run, serving, wechat_serving
from tests.support.deployment import DEPLOY, example_of, move_below, status, variables_of_image
from tests.support.environment import ROOT, free_port
from tests.support.servers.postgres import PostgresServer
from tests.support.servers.redis import Engines
from tools.packages import build_chart

PAGE = (ROOT / "docs/deploy.md").read_text()
VALUES: dict[str, Any] = yaml.safe_load(example_of(PAGE, "yaml", "# values.yaml"))
SECRET = example_of(PAGE, "sh", "scan-login key create")

MINIMAL: dict[str, Any] = {
    "image": {"repository": "registry.example/scan-login"},
    "settings": {"public_url": "http://login.example", "provider": "pretend"},
    "replicas": 1,
    "ingress": {"enabled": False},
    "migrate": False,
}
FULL: dict[str, Any] = {
    **VALUES,
    "image": {"repository": "r.example/scan-login", "tag": "1", "pullPolicy": "Always"},
    "imagePullSecrets": [{"name": "registry"}],
    "replicas": 3,
    "settings": {
        **VALUES["settings"],
        "public_url": "https://site.example/login-broker",
        "begins_per_minute": 12_000_000,
        "drain": 2.5,
        "signin_remember": True,
        "files_url": "s3://bucket/files",
    },
    "environment": {"AWS_REGION": "eu-west-1"},
    "secret": {
        **VALUES["secret"],
        "name": "keys",
        "data": {"keys.json": "{}", "seal.json": "{}", "state": "redis://a", "records": "b"},
        "environment": {"AWS_SECRET_ACCESS_KEY": "s3-secret"},
    },
    "ingress": {"className": "nginx", "tlsSecretName": "certificate"},
    "metrics": {"serviceMonitor": True, "rules": True, "labels": {"release": "prometheus"}},
    "podAnnotations": {"team": "login"},
    "nodeSelector": {"zone": "a"},
    "tolerations": [{"key": "spot", "operator": "Exists"}],
}
ALL_VALUES = {"documented": VALUES, "minimal": MINIMAL, "full": FULL}
KUBERNETES = "1.37"

FIXED_SETTINGS = {"host", "port", "admin_host", "admin_port", "instance", "key_file", "seal_file"}
"""Settings that the chart or the image sets."""


def is_custom(item: Object) -> bool:
    """Return whether the object is of the Prometheus operator."""
    return str(item["apiVersion"]).startswith("monitoring.coreos.com/")


@pytest.mark.parametrize("values", ALL_VALUES.values(), ids=ALL_VALUES)
def test_kubernetes_schemas_accept_chart(values: Mapping[str, Any]) -> None:
    for item in render(values):
        if not is_custom(item):
            kubernetes_validate.validate(item, KUBERNETES, strict=True)


def test_kubernetes_schemas_refuse_wrong_type() -> None:
    deployment = of_kind(render(VALUES), "Deployment")
    deployment["spec"]["replicas"] = "x"

    with pytest.raises(kubernetes_validate.ValidationError, match="'x'"):
        kubernetes_validate.validate(deployment, KUBERNETES, strict=True)


def variables_of(item: Object) -> Iterator[dict[str, Any]]:
    for container in item["spec"]["template"]["spec"]["containers"]:
        yield from container["env"]


@pytest.mark.parametrize("values", ALL_VALUES.values(), ids=ALL_VALUES)
def test_variables_of_chart_are_settings(values: Mapping[str, Any]) -> None:
    known = {f"SCAN_LOGIN_{name.upper()}" for name in FIELDS}
    workloads = [item for item in render(values) if item["kind"] in ("Deployment", "Job")]
    names = {one["name"].removesuffix("_FILE") for item in workloads for one in variables_of(item)}

    assert "SCAN_LOGIN_STATE_URL" in names
    assert {name for name in names if not name.startswith("AWS_")} - known == set()


def changed(path: str, value: object) -> dict[str, Any]:
    """Return the documented values with one other value."""
    values = deepcopy(VALUES)
    *groups, name = path.split(".")
    group = values
    for one in groups:
        group = group.setdefault(one, {})
    group[name] = value
    return values


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("settings.public_url", "ftp://login.example"),
        ("settings.public_url", "https://login.example/"),
        ("settings.provider", ""),
        ("settings.wechat_appid", "0123"),
        ("settings.drain", 11),
        ("settings.port", 8001),
        ("settings.bogus", 1),
        ("settings.admin_token", "a" * 32),
        ("settings.state_url", "redis://redis:6379/0"),
        ("settings.bus_url", "redis://:password@redis:6379/0"),
        ("secret.settings.bogus", "entry"),
        ("secret.settings.key_file", "entry"),
        ("settings.PUBLIC_URL", "https://login.example"),
        ("image.repository", ""),
        ("replicas", "2"),
        ("replicas", 0),
        ("ingress.classname", "nginx"),
        ("secret.settings.state_url", "a/b"),
        ("settings.files_url", "file:///var/lib/scan-login/files"),
        ("environment.SCAN_LOGIN_PORT", "8001"),
    ],
)
def test_invalid_value_is_refused(path: str, value: object) -> None:
    with pytest.raises(HelmError, match=re.escape(path.rpartition(".")[2])):
        render(changed(path, value))


def test_chart_knows_settings_and_their_secrets() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    known = {name: set(item["enum"]) for name, item in schema["definitions"].items()}
    secret = {name for name, field in FIELDS.items() if "SecretStr" in str(field.annotation)}
    required = set(schema["properties"]["secret"]["properties"]["settings"]["required"])

    assert known["secretSetting"] == secret | required
    assert known["setting"] == FIELDS.keys() - FIXED_SETTINGS - known["secretSetting"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("settings.bus_url", "redis://redis:6379/1"),
        ("secret.settings.bus_url", "bus"),
        ("secret.settings.admin_token", "admin-token"),
    ],
)
def test_setting_is_accepted_in_correct_place(path: str, value: str) -> None:
    deployment = of_kind(render(changed(path, value)), "Deployment")

    name = f"SCAN_LOGIN_{path.rpartition('.')[2].upper()}"
    values = {
        one["name"].removesuffix("_FILE"): one.get("value") for one in variables_of(deployment)
    }
    assert values[name] in (value, f"/run/secrets/scan-login/{value}")


def test_notes_name_certificate_and_missing_proxies() -> None:
    without = deepcopy(VALUES)
    del without["settings"]["trusted_proxies"]

    assert "the TLS Secret scan-login-tls" in render_notes(VALUES)
    assert "the TLS Secret certificate" in render_notes(FULL)
    assert "TLS Secret" not in render_notes(MINIMAL)
    assert "WARNING: settings.trusted_proxies is missing" in render_notes(without)
    assert "WARNING" not in render_notes(VALUES) + render_notes(MINIMAL)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({}, "public_url"),
        ({**MINIMAL, "settings": {"public_url": "https://login.example"}}, "provider"),
        ({**VALUES, "secret": {}}, "wechat_secret"),
    ],
)
def test_missing_value_is_refused(values: Mapping[str, Any], name: str) -> None:
    with pytest.raises(HelmError, match=name):
        render(values)


def test_numbers_are_written_as_settings_read_them() -> None:
    deployment = of_kind(render(FULL), "Deployment")
    values = {one["name"]: one.get("value") for one in variables_of(deployment)}

    assert values["SCAN_LOGIN_BEGINS_PER_MINUTE"] == "12000000"
    assert values["SCAN_LOGIN_DRAIN"] == "2.5"
    assert values["SCAN_LOGIN_SIGNIN_REMEMBER"] == "true"


def test_credentials_of_a_store_reach_the_pods() -> None:
    deployment = of_kind(render(FULL), "Deployment")
    variables = {one["name"]: one for one in variables_of(deployment)}

    assert variables["AWS_REGION"]["value"] == "eu-west-1"
    secret = variables["AWS_SECRET_ACCESS_KEY"]["valueFrom"]["secretKeyRef"]
    assert secret == {"name": "keys", "key": "s3-secret"}


def test_chart_has_version_of_broker() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())

    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)


def test_chart_contains_shipped_alert_rules() -> None:
    rules = of_kind(render(FULL), "PrometheusRule")["spec"]

    assert rules == yaml.safe_load((DEPLOY / "alerts.yml").read_text())


def test_rules_link_to_documentation_of_values() -> None:
    metrics = {**FULL["metrics"], "documentation": "https://docs.example/login"}
    groups = of_kind(render({**FULL, "metrics": metrics}), "PrometheusRule")["spec"]["groups"]

    urls = [rule["annotations"]["runbook_url"] for group in groups for rule in group["rules"]]
    assert {url.rpartition("/#")[0] for url in urls} == {"https://docs.example/login/alerts"}


def paths(ingress: Object) -> list[str]:
    [rule] = ingress["spec"]["rules"]
    assert rule["host"] in {host for tls in ingress["spec"]["tls"] for host in tls["hosts"]}
    return [path["path"] for path in rule["http"]["paths"]]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (VALUES, [["/"], ["/socket.io/"]]),
        (
            FULL,
            [
                ["/login-broker/", "/.well-known/oauth-authorization-server/login-broker"],
                ["/login-broker/socket.io/"],
            ],
        ),
    ],
    ids=["root", "path"],
)
def test_ingresses_have_paths_of_public_url(
    values: Mapping[str, Any], expected: list[list[str]]
) -> None:
    ingresses = [item for item in render(values) if item["kind"] == "Ingress"]

    assert [paths(ingress) for ingress in ingresses] == expected
    hashes = [
        "nginx.ingress.kubernetes.io/upstream-hash-by" in ingress["metadata"]["annotations"]
        for ingress in ingresses
    ]
    assert hashes == [False, True]


# ---- the pod ----


def pod_of(objects: list[Object], kind: str = "Deployment") -> Object:
    pod: Object = of_kind(objects, kind)["spec"]["template"]["spec"]
    return pod


@pytest.fixture(scope="module")
def wechat() -> Iterator[str]:
    with wechat_serving() as url:
        yield url


@pytest.fixture
def settings(
    tmp_path: Path, engines: Engines, postgres: PostgresServer, wechat: str
) -> dict[str, str]:
    """The variables of the pod, with its Secret and initialized files below `tmp_path`."""
    servers = {"state": engines.url("redis"), "records": postgres.new_database()}
    write_secret(tmp_path, servers)
    pod = pod_of(render(VALUES))
    (tmp_path / "var/lib/scan-login").mkdir(parents=True)
    command = [move_below(word, tmp_path) for word in pod["initContainers"][0]["command"]]
    subprocess.run(command, check=True, timeout=90)
    given = {one["name"]: one.get("value", "a-pod") for one in pod["containers"][0]["env"]}
    return {
        **{name: move_below(value, tmp_path) for name, value in variables_of_image().items()},
        **{name: move_below(value, tmp_path) for name, value in given.items()},
        "SCAN_LOGIN_HOST": "127.0.0.1",
        "SCAN_LOGIN_PORT": str(free_port()),
        "SCAN_LOGIN_ADMIN_HOST": "127.0.0.1",
        "SCAN_LOGIN_ADMIN_PORT": str(free_port()),
        "SCAN_LOGIN_WECHAT_API_URL": wechat,
    }


def write_secret(root: Path, servers: Mapping[str, str]) -> None:
    """Do what the documented commands do. `servers` are the URLs of this test."""
    folder = root / "run/secrets/scan-login"
    folder.mkdir(parents=True)
    create, kubectl = SECRET.replace("\\\n", "").splitlines()
    assert run(root, *shlex.split(create)[1:]).returncode == 0
    for option in shlex.split(kubectl):
        kind, _, rest = option.partition("=")
        name, _, value = rest.partition("=")
        if kind == "--from-file":
            (folder / name).write_bytes((root / value).read_bytes())
        elif kind == "--from-literal":
            (folder / name).write_text(servers.get(name, value))


def test_pod_starts_with_documented_values(tmp_path: Path, settings: dict[str, str]) -> None:
    [container] = pod_of(render(VALUES))["containers"]
    key_file = tmp_path / "var/lib/scan-login/keys.json"
    keys = key_file.read_bytes()

    assert container["args"] == ["serve"]
    assert run(tmp_path, "config", "check", **settings).returncode == 0
    with serving(tmp_path, **settings) as (_, line):
        assert "ready on" in line
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert status(settings["SCAN_LOGIN_PORT"], container[probe]["httpGet"]["path"]) == 200
        assert status(settings["SCAN_LOGIN_ADMIN_PORT"], "/metrics") == 200
    assert key_file.read_bytes() == keys


def test_migration_job_migrates_tables(tmp_path: Path, settings: dict[str, str]) -> None:
    [container] = of_kind(render(VALUES), "Job")["spec"]["template"]["spec"]["containers"]

    assert run(tmp_path, *container["args"], **settings).returncode == 0

    assert run(tmp_path, "records", "status", **settings).returncode == 0


def test_secret_has_valid_urls_as_printed(tmp_path: Path) -> None:
    """The URLs of the Secret, with their placeholder passwords."""
    literals = dict(re.findall(r"--from-literal=(state|records)='([^']+)'", SECRET))
    urls = {f"SCAN_LOGIN_{name.upper()}_URL": url for name, url in literals.items()}

    assert run(tmp_path, "config", "check", **urls).returncode == 0


def test_objects_refer_to_each_other() -> None:
    objects = render(FULL)
    pod, labels = pod_of(objects), of_kind(objects, "Deployment")["spec"]["template"]["metadata"]
    [container] = pod["containers"]
    ports = {item["name"]: item["containerPort"] for item in container["ports"]}
    volumes = {item["name"] for item in pod["volumes"]}
    services = [item for item in objects if item["kind"] == "Service"]
    names = {item["metadata"]["name"]: item for item in services}

    assert ports == {"http": 8000, "metrics": 9000}
    for service in services:
        assert service["spec"]["selector"].items() <= labels["labels"].items()
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports.keys()
    for used in [container, *pod["initContainers"]]:
        assert {item["name"] for item in used["volumeMounts"]} == volumes
    for ingress in (item for item in objects if item["kind"] == "Ingress"):
        for path in ingress["spec"]["rules"][0]["http"]["paths"]:
            assert path["backend"]["service"]["name"] in names
    [secret] = [item["secret"]["secretName"] for item in pod["volumes"] if "secret" in item]
    assert of_kind(objects, "Secret")["metadata"]["name"] == secret
    monitored = of_kind(objects, "ServiceMonitor")["spec"]["selector"]["matchLabels"]
    assert monitored.items() <= names["scan-login-metrics"]["metadata"]["labels"].items()
    assert not monitored.items() <= names["scan-login"]["metadata"]["labels"].items()


def test_service_selects_no_pod_of_migration() -> None:
    objects = render(VALUES)
    selector = of_kind(objects, "Service")["spec"]["selector"]
    labels = of_kind(objects, "Job")["spec"]["template"]["metadata"]["labels"]

    assert not selector.items() <= labels.items()


def test_pod_has_time_for_longest_drain() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    longest = schema["properties"]["settings"]["properties"]["drain"]["maximum"]

    assert pod_of(render(VALUES))["terminationGracePeriodSeconds"] >= longest + 8


@pytest.mark.parametrize("kind", ["Deployment", "Job"])
def test_pod_has_no_privileges(kind: str) -> None:
    user = re.findall(r"^USER (\d+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    pod = pod_of(render(VALUES), kind)

    assert [str(pod["securityContext"]["runAsUser"])] == user
    assert (pod["enableServiceLinks"], pod["automountServiceAccountToken"]) == (False, False)
    for container in [*pod["containers"], *pod["initContainers"]]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }


def test_archive_of_chart_renders_like_its_folder(tmp_path: Path) -> None:
    assert render(FULL, build_chart(tmp_path)) == render(FULL)
