"""`scan-login config`, and the sources of settings."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from broker.apps.settings import AppSettings
from broker.infrastructure.runtime.settings import ServerSettings
from broker.infrastructure.settings_sources import Source, collect
from broker.settings import FIELDS, find_values, load_settings
from tests.support.commands import call

POSTGRES = "postgresql+asyncpg://user:password@db.internal/scanlogin"

LINKS = {
    "SCAN_LOGIN_PORT": "tcp://10.0.0.1:8000",
    "SCAN_LOGIN_SERVICE_HOST": "10.0.0.1",
    "SCAN_LOGIN_SERVICE_PORT": "8000",
    "SCAN_LOGIN_SERVICE_PORT_HTTP": "8000",
    "SCAN_LOGIN_PORT_8000_TCP": "tcp://10.0.0.1:8000",
    "SCAN_LOGIN_PORT_8000_TCP_PROTO": "tcp",
    "SCAN_LOGIN_PORT_8000_TCP_PORT": "8000",
    "SCAN_LOGIN_PORT_8000_TCP_ADDR": "10.0.0.1",
}
"""Variables that Kubernetes sets for a Service `scan-login`.
https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables"""


def shown_settings(text: str) -> dict[str, list[str]]:
    """Return value and source of each setting that `config show` has printed."""
    rows = [re.split(r" {2,}", line) for line in text.splitlines()]
    assert rows[0] == ["NAME", "VALUE", "SOURCE"]
    return {name: rest for name, *rest in rows[1:]}


def config_check(folder: Path, **variables: str) -> tuple[int, Any]:
    """Return the exit code of `config check` and its JSON output."""
    variables = {f"SCAN_LOGIN_{name}": value for name, value in variables.items()}
    done = call(folder, "config", "check", "--json", **variables)
    return done.returncode, json.loads(done.stdout)


def test_config_check_reports_all_mistakes(tmp_path: Path) -> None:
    wrong = {"PORT": "x", "STATE_URL": "etcd://", "RECORDS_URL": "mysql://h/db", "PROT": "1"}

    code, outcome = config_check(tmp_path, **wrong)

    assert (code, outcome["valid"]) == (1, False)
    named = {mistake.partition(":")[0] for mistake in outcome["mistakes"]}
    assert named == {f"SCAN_LOGIN_{name}" for name in wrong}


def test_config_check_reports_options_of_both_servers(tmp_path: Path) -> None:
    wrong = {"STATE_URL": "redis://h?misspelt=1", "BUS_URL": "redis://h?wrong=1"}

    _, outcome = config_check(tmp_path, **wrong)

    named = [mistake.partition(":")[0] for mistake in outcome["mistakes"]]
    assert named == ["SCAN_LOGIN_STATE_URL", "SCAN_LOGIN_BUS_URL"]


def test_config_check_reports_a_shared_url_once(tmp_path: Path) -> None:
    _, outcome = config_check(tmp_path, STATE_URL="redis://h?misspelt=1")

    [mistake] = outcome["mistakes"]
    assert mistake.startswith("SCAN_LOGIN_STATE_URL: unknown option 'misspelt'")


@pytest.mark.parametrize(
    ("mode", "reason"), [(0o600, "is damaged"), (0o640, "can be read by other users")]
)
def test_config_check_reads_both_key_files(tmp_path: Path, mode: int, reason: str) -> None:
    names = ("keys.json", "seal.json")
    for name in names:
        (tmp_path / name).write_text("{")
        (tmp_path / name).chmod(mode)

    code, outcome = config_check(tmp_path, KEY_FILE=names[0], SEAL_FILE=names[1])

    assert code == 1
    for name, mistake in zip(names, outcome["mistakes"], strict=True):
        assert mistake.startswith(f"{name} {reason}")


def test_seal_keys_replace_seal_file(tmp_path: Path) -> None:
    (tmp_path / "scan-login-seal.json").write_text("{")

    code, outcome = config_check(tmp_path, SEAL_KEYS="A" * 43 + "=")

    assert (code, outcome["mistakes"]) == (0, [])


def test_config_check_names_each_source(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("memory://\n")
    (tmp_path / "scan-login.toml").write_text("login_lifetime = 90\n")

    done = call(
        *(tmp_path, "config", "check"),
        SCAN_LOGIN_PORT="8001",
        SCAN_LOGIN_STATE_URL_FILE=str(tmp_path / "secret"),
    )

    assert done.returncode == 0
    assert "SCAN_LOGIN_PORT: from environment SCAN_LOGIN_PORT\n" in done.stdout
    assert f"SCAN_LOGIN_STATE_URL: from file {tmp_path}/secret\n" in done.stdout
    assert "SCAN_LOGIN_LOGIN_LIFETIME: from file scan-login.toml\n" in done.stdout


def test_config_check_warns_of_phones_without_match(tmp_path: Path) -> None:
    code, outcome = config_check(tmp_path, POLICY="built-in")

    assert (code, outcome["valid"]) == (0, True)
    [warning] = outcome["warnings"]
    assert warning.endswith("release the new mini program first")


def test_config_check_prints_warnings_to_stderr(tmp_path: Path) -> None:
    done = call(tmp_path, "config", "check", SCAN_LOGIN_POLICY="built-in")

    assert done.stdout.startswith("the settings are valid\n")
    assert done.stderr.startswith("warning: SCAN_LOGIN_POLICY: a phone whose mini program")


def test_config_check_reads_the_file_of_countries(tmp_path: Path) -> None:
    (tmp_path / "countries.mmdb").write_bytes(b"no countries" * 100)

    code, outcome = config_check(tmp_path, POLICY="built-in", GEO_FILE="countries.mmdb")

    assert code == 1
    [mistake] = outcome["mistakes"]
    assert mistake.startswith("SCAN_LOGIN_GEO_FILE: countries.mmdb is not an MMDB file")


def test_config_check_without_settings_names_defaults_only(tmp_path: Path) -> None:
    done = call(tmp_path, "config", "check")

    assert done.stdout.splitlines() == ["the settings are valid", "all values: default"]


def test_config_show_prints_false_and_empty_values(tmp_path: Path) -> None:
    rows = shown_settings(call(tmp_path, "config", "show").stdout)

    assert rows["records_pgbouncer"] == ["false", "default"]
    assert rows["pictures_endpoint"] == ["-", "default"]


def test_config_check_names_the_source_of_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "scan-login.toml").write_text("port = 70000\n")

    done = call(tmp_path, "config", "check")

    assert done.returncode == 1
    assert done.stderr.endswith("(from file scan-login.toml)")


def test_config_check_writes_no_file(tmp_path: Path) -> None:
    assert call(tmp_path, "config", "check").returncode == 0

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("RECORDS_URL", f"{POSTGRES}?sslmode=maybe", "`sslmode` parameter must be one of"),
        ("RECORDS_URL", f"{POSTGRES}?ssl=maybe", "`sslmode` parameter must be one of"),
        ("RECORDS_URL", f"{POSTGRES}?sslmode=verify-full&sslrootcert=/no/ca", "cannot read /no/ca"),
        (
            "RECORDS_URL",
            f"{POSTGRES}?sslmode=require&sslmode=allow",
            "sslmode is given twice",
        ),
        ("RECORDS_URL", f"{POSTGRES}?misspelt=1", "unknown option 'misspelt'"),
        ("RECORDS_URL", "sqlite+aiosqlite:////no/such/folder/x.db", "does not exist"),
        ("STATE_URL", "redis://h:port", "use host or host:port"),
        ("STATE_URL", "rediss://h?ssl_ca_certs=/no/ca", "cannot read /no/ca"),
        ("STATE_URL", "rediss://h?ssl_cert_reqs=maybe", "Invalid SSL"),
        ("BUS_URL", "redis://h?misspelt=1", "unknown option 'misspelt'"),
        ("HOST", "0.0.0.0", "missing; browsers cannot open"),
        ("HOST", "::", "missing; browsers cannot open"),
        ("HOST", "0:0:0:0:0:0:0:0", "missing; browsers cannot open"),
        ("HOST", "127.0.0.1,0.0.0.0", "missing; browsers cannot open 0.0.0.0"),
        ("HOST", "localhost,::", "missing; browsers cannot open ::"),
        ("HOST", "0", "use an address"),
        ("HOST", "http://127.0.0.1", "use an address"),
        ("HOST", "127.0.0.1:8000", "use an address"),
        ("PUBLIC_URL", "http://user:password@127.0.0.1", "without user"),
        ("PICTURES_URL", "s3://key:secret@bucket", "must not contain user"),
        ("FILES_URL", "az://box", "Account must be"),
    ],
)
def test_config_check_refuses_unusable_values(
    tmp_path: Path, name: str, value: str, reason: str
) -> None:

    code, outcome = config_check(tmp_path, **{name: value})

    assert code == 1
    assert any(reason in mistake for mistake in outcome["mistakes"])


@pytest.mark.parametrize(
    "value",
    [
        POSTGRES,
        *(f"{POSTGRES}?sslmode={mode}" for mode in ("disable", "allow", "prefer", "require")),
        f"{POSTGRES}?ssl=require",
        "postgresql+asyncpg://user:password@/scanlogin?host=h1:5432&host=h2:5432&sslmode=require",
        "postgresql+asyncpg://user:p%40s%2Fs%23w%3Ford@db.internal/scanlogin",
        "sqlite+aiosqlite:///records@home.db?timeout=3",
    ],
)
def test_config_check_accepts_records_url(tmp_path: Path, value: str) -> None:
    assert config_check(tmp_path, RECORDS_URL=value) == (
        0,
        {
            "valid": True,
            "mistakes": [],
            "warnings": [],
            "sources": {"records_url": {"kind": "environment", "name": "SCAN_LOGIN_RECORDS_URL"}},
        },
    )


@pytest.mark.parametrize("option", ["statement_cache_size=100", "prepared_statement_cache_size=9"])
def test_statement_cache_conflicts_with_pgbouncer(tmp_path: Path, option: str) -> None:
    url = f"{POSTGRES}?sslmode=require&{option}"

    code, outcome = config_check(tmp_path, RECORDS_URL=url, RECORDS_PGBOUNCER="true")

    assert code == 1
    [mistake] = outcome["mistakes"]
    conflict = f"{option} conflicts with SCAN_LOGIN_RECORDS_PGBOUNCER=true"
    assert mistake.startswith(f"SCAN_LOGIN_RECORDS_URL: {conflict}")


@pytest.mark.parametrize("query", ["", "?sslmode=require", "?statement_cache_size=0"])
def test_config_check_accepts_pgbouncer(tmp_path: Path, query: str) -> None:
    url = f"{POSTGRES}{query}"

    assert config_check(tmp_path, RECORDS_URL=url, RECORDS_PGBOUNCER="true")[0] == 0


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
def test_verifying_sslmode_reads_root_certificate(tmp_path: Path, mode: str) -> None:
    (tmp_path / "ca.pem").write_text("no certificate\n")

    code, outcome = config_check(
        tmp_path, RECORDS_URL=f"{POSTGRES}?sslmode={mode}&sslrootcert={tmp_path}/ca.pem"
    )

    assert code == 1
    assert "no certificate or crl found" in outcome["mistakes"][0]


def test_config_show_prints_values_and_sources(tmp_path: Path) -> None:
    (tmp_path / "scan-login.toml").write_text('app_name = "A shop"\n')

    rows = shown_settings(call(tmp_path, "config", "show", SCAN_LOGIN_PORT="8001").stdout)

    assert rows["port"] == ["8001", "environment SCAN_LOGIN_PORT"]
    assert rows["app_name"] == ["A shop", "file scan-login.toml"]
    assert rows["token_algorithm"] == ["ES256", "default"]


def test_config_show_prints_selected_settings(tmp_path: Path) -> None:
    named = call(tmp_path, "config", "show", "port", "SCAN_LOGIN_HOST")
    changed = call(tmp_path, "config", "show", "--changed", SCAN_LOGIN_PORT="8001")

    assert shown_settings(named.stdout).keys() == {"host", "port"}
    assert shown_settings(changed.stdout).keys() == {"port"}


def test_config_show_refuses_an_unknown_name(tmp_path: Path) -> None:
    refused = call(tmp_path, "config", "show", "prot")

    assert refused.returncode == 2
    assert refused.stderr == "prot: no such setting; did you mean SCAN_LOGIN_PORT?\n"


def test_config_show_prints_json(tmp_path: Path) -> None:
    done = call(tmp_path, "config", "show", "--json", SCAN_LOGIN_ORIGINS="https://shop.example")

    shown = json.loads(done.stdout)
    assert shown.keys() == FIELDS.keys()
    assert shown["origins"] == {
        "value": ["https://shop.example"],
        "source": {"kind": "environment", "name": "SCAN_LOGIN_ORIGINS"},
    }
    assert shown["port"] == {"value": 8000, "source": {"kind": "default", "name": ""}}


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_config_show_hides_passwords(tmp_path: Path, flags: list[str]) -> None:
    shown = call(
        tmp_path,
        *("config", "show", *flags),
        SCAN_LOGIN_REGISTER_URL="https://u:hunter2@a.example/",
        SCAN_LOGIN_STATE_URL="redis+sentinel://h/name?sentinel_password=hunter2&db=1",
        SCAN_LOGIN_RECORDS_URL=f"{POSTGRES}?password=hunter2&sslpassword=hunter2",
        SCAN_LOGIN_WECHAT_SECRET="hunter2",
        SCAN_LOGIN_ADMIN_TOKEN="hunter2" * 5,
        SCAN_LOGIN_APP_NAME="http://[",
    )

    assert shown.returncode == 0
    assert "u:[hidden]@a.example" in shown.stdout
    assert "sentinel_password=[hidden]&db=1" in shown.stdout
    assert "user:[hidden]@db.internal" in shown.stdout
    assert "hunter2" not in shown.stdout


def test_toml_file_with_byte_order_mark_is_read(tmp_path: Path) -> None:
    file = tmp_path / "scan-login.toml"
    file.write_text("port = 8001\n", encoding="utf-8-sig")

    assert load_settings(file)[ServerSettings].port == 8001


def test_secret_file_with_byte_order_mark_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "name").write_text("A shop\n", encoding="utf-8-sig")
    monkeypatch.setenv("SCAN_LOGIN_APP_NAME_FILE", str(tmp_path / "name"))

    assert load_settings()[AppSettings].app_name == "A shop"


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ("port = 1\nhost = \n", "2:8: "),
        ("port = 1\norigins = [", "2:12: "),
        ("port = 1\nport = 2\n", "2:9: "),
    ],
)
def test_toml_syntax_error_has_line_and_column(tmp_path: Path, content: str, place: str) -> None:
    file = tmp_path / "scan-login.toml"
    file.write_text(content)

    [mistake] = find_values(file).mistakes

    assert mistake.startswith(f"{file}:{place}")
    assert "(at" not in mistake


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("SCAN_LOGIN_PUBLC_URL", "SCAN_LOGIN_PUBLIC_URL"),
        ("SCAN_LOGIN_STATE_URL_FLIE", "SCAN_LOGIN_STATE_URL_FILE"),
    ],
)
def test_unknown_variable_suggests_the_nearest(name: str, suggestion: str) -> None:
    found = collect(FIELDS, {name: "1"}, None)

    assert found.unknown == [f"{name}: no such setting; did you mean {suggestion}?"]


@pytest.mark.parametrize("name", ["prot", "scan_login_prot", "PORT", "SCAN_LOGIN_PORT"])
def test_unknown_toml_name_suggests_the_nearest(tmp_path: Path, name: str) -> None:
    file = tmp_path / "scan-login.toml"
    file.write_text(f"{name} = 1\n")

    [sentence] = collect(FIELDS, {}, file).unknown

    assert sentence.endswith(f": no such setting; did you mean port? (from file {file})")


@pytest.mark.parametrize("name", ["SCAN_LOGIN_STATE_URL", "SCAN_LOGIN_STATE_URL_FILE"])
def test_empty_variable_is_not_set(name: str) -> None:
    found = collect(FIELDS, {name: ""}, None)

    assert (found.values, found.mistakes) == ({}, [])


def test_unknown_name_without_similar_setting_is_reported() -> None:
    found = collect(FIELDS, {"SCAN_LOGIN_XYLOPHONE": "1"}, None)

    assert found.unknown == ["SCAN_LOGIN_XYLOPHONE: no such setting"]


def test_service_links_are_ignored_with_one_warning() -> None:
    found = collect(FIELDS, LINKS, None)

    assert (found.values, found.mistakes, found.unknown) == ({}, [], [])
    [warning] = found.warnings
    assert warning.startswith("SCAN_LOGIN_PORT: ignored")
    assert "enableServiceLinks: false" in warning


@pytest.mark.parametrize("service", ["SCAN_LOGIN_ADMIN", "SCAN_LOGIN_REDIS"])
def test_links_of_neighbouring_services_are_ignored(service: str) -> None:
    links = {name.replace("SCAN_LOGIN", service): value for name, value in LINKS.items()}

    found = collect(FIELDS, links, None)

    assert (found.values, found.mistakes, found.unknown) == ({}, [], [])


def test_service_link_does_not_override_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "scan-login.toml"
    file.write_text("port = 8001\n")
    for name, value in LINKS.items():
        monkeypatch.setenv(name, value)

    assert load_settings(file)[ServerSettings].port == 8001
    assert load_settings()[ServerSettings].port == 8000


def test_port_without_service_links_is_a_mistake(tmp_path: Path) -> None:
    code, outcome = config_check(tmp_path, PORT="tcp://10.0.0.1:8000")

    assert code == 1
    assert outcome["mistakes"][0].startswith("SCAN_LOGIN_PORT: ")


def test_explicit_port_with_service_links_is_read() -> None:
    found = collect(FIELDS, {**LINKS, "SCAN_LOGIN_PORT": "8001"}, None)

    assert found.values == {"port": "8001"}
    assert found.sources == {"port": Source("environment", "SCAN_LOGIN_PORT")}
