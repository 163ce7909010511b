"""Sources, defaults and checks of settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from broker.directories.settings import DirectorySettings
from broker.errors import InvalidSettings
from broker.infrastructure.runtime.settings import ServerSettings
from broker.infrastructure.settings import InvalidField, InvalidGroup, Settings
from broker.pool.settings import PoolSettings
from broker.providers.wechat.settings import WeChatSettings
from broker.settings import GROUPS, ROLES, find_values, load_settings


def mistakes(file: Path | None = None) -> list[str]:
    with pytest.raises(InvalidSettings) as refused:
        load_settings(file)
    return str(refused.value).splitlines()


def values(file: Path | None = None) -> dict[str, object]:
    return load_settings(file).values()


def test_settings_without_sources_have_documented_defaults() -> None:
    assert (
        values().items()
        >= {
            "host": "127.0.0.1",
            "port": 8000,
            "admin_port": 9000,
            "public_url": "http://127.0.0.1:8000",
            "origins": ("http://127.0.0.1:8000",),
            "state_url": "memory://",
            "bus_url": None,
            "records_url": "sqlite+aiosqlite:///scan-login.db",
            "pictures_public_url": "http://127.0.0.1:8000/codes",
            "provider": "pretend",
            "directory": "open",
            "roles": ROLES,
            "login_lifetime": 120,
        }.items()
    )


def test_openid_connect_needs_a_secure_public_url() -> None:
    insecure: dict[str, Any] = {"public_url": "http://login.example", "allow_pretend": True}
    secure = {**insecure, "public_url": "https://login.example"}

    assert "oidc" not in load_settings(**insecure)[ServerSettings].roles
    assert "oidc" in load_settings(**secure)[ServerSettings].roles
    with pytest.raises(InvalidSettings, match="OpenID Connect needs https"):
        load_settings(**insecure, roles="oidc")


def test_instance_without_setting_is_random() -> None:
    assert values()["instance"] != values()["instance"]


def test_environment_has_priority_over_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "scan-login.toml"
    file.write_text(
        'port = 1\nscan_login_app_name = "From the file"\norigins = ["http://a.example"]\n'
    )
    monkeypatch.setenv("SCAN_LOGIN_PORT", "2")

    found = values(file)

    assert (found["port"], found["app_name"]) == (2, "From the file")
    assert found["origins"] == ("http://a.example",)


def test_mounted_file_has_priority_over_toml(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "name").write_text("A shop\n")
    (tmp_path / "scan-login.toml").write_text('app_name = "From the TOML file"\n')
    monkeypatch.setenv("SCAN_LOGIN_APP_NAME_FILE", str(tmp_path / "name"))

    assert values(tmp_path / "scan-login.toml")["app_name"] == "A shop"


def test_missing_mounted_file_is_a_mistake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SCAN_LOGIN_APP_NAME_FILE", str(tmp_path / "missing"))

    assert "SCAN_LOGIN_APP_NAME_FILE: cannot read" in mistakes()[0]


@pytest.mark.parametrize(
    "text",
    [
        "http://a.example,https://b.example:8443",
        '["http://a.example", "https://b.example:8443"]',
        " http://a.example  https://b.example:8443 ",
    ],
)
def test_variable_holds_several_origins(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SCAN_LOGIN_ORIGINS", text)

    assert values()["origins"] == ("http://a.example", "https://b.example:8443")


def test_all_mistakes_are_reported_together(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {
        "PORT": "70000",
        "LOGIN_LIFETIME": "-1",
        "STATE_URL": "etcd://",
        "RECORDS_URL": "mysql://u:hunter2@h/db",
        "ADMIN_TOKEN": "too-short-canary",
        "BUS_URL": "smoke://",
        "ORIGINS": "https://a.example/path",
        "PUBLIC_URL": "ftp://a",
        "PROVIDER": "unknown",
        "DIRECTORY": "unknown",
        "DIRECTORY_SECRET": "whsec_canary",
        "TOKEN_ALGORITHM": "none",
        "TRUSTED_PROXIES": "10.0.0.0/99",
        "LOG_LEVEL": "loud",
        "INSTANCE": "a b",
        "TUNNEL_AWAY_TIMEOUT": "86401",
    }
    for name, value in wrong.items():
        monkeypatch.setenv(f"SCAN_LOGIN_{name}", value)

    found = mistakes()

    assert {line.split(":")[0] for line in found} >= {f"SCAN_LOGIN_{name}" for name in wrong}
    assert "canary" not in str(found)


@pytest.mark.parametrize(
    "origin",
    [
        *("*", "null", "https://a.example/", "a.example", "https://*.example"),
        *("htps://a.example", "file://", "capacitor:localhost", "capacitor://", "app://host/path"),
    ],
)
def test_inexact_origin_is_refused(monkeypatch: pytest.MonkeyPatch, origin: str) -> None:
    monkeypatch.setenv("SCAN_LOGIN_ORIGINS", origin)

    assert "is not an Origin" in mistakes()[0]


@pytest.mark.parametrize("name", ["HOST", "PUBLIC_URL"])
def test_reachable_pretend_provider_needs_permission(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(
        f"SCAN_LOGIN_{name}", "192.0.2.1" if name == "HOST" else "https://login.example"
    )
    [mistake] = mistakes()
    provider, pretend = mistake.index("PROVIDER=wechat"), mistake.index("ALLOW_PRETEND=true")
    assert provider < pretend

    monkeypatch.setenv("SCAN_LOGIN_ALLOW_PRETEND", "true")
    assert values()["allow_pretend"]


@pytest.mark.parametrize("name", ["BUS_URL", "INSTANCE", "PUBLIC_URL", "ORIGINS"])
def test_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"SCAN_LOGIN_{name}", "")

    assert values()[name.lower()] or name == "BUS_URL"


@pytest.mark.parametrize(
    ("host", "url"), [("127.0.0.2", "http://127.0.0.2:81"), ("::1", "http://[::1]:81")]
)
def test_public_url_defaults_to_host_and_port(
    monkeypatch: pytest.MonkeyPatch, host: str, url: str
) -> None:
    monkeypatch.setenv("SCAN_LOGIN_HOST", host)
    monkeypatch.setenv("SCAN_LOGIN_PORT", "81")

    assert (values()["public_url"], values()["origins"]) == (url, (url,))


def test_pool_maximum_below_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCAN_LOGIN_POOL_SIZE", "20000")

    assert mistakes() == ["SCAN_LOGIN_POOL_MAX: use at least SCAN_LOGIN_POOL_SIZE, 20000"]


@pytest.mark.parametrize("name", ["REGISTER_URL", "PHONE_PAGE_URL", "PUBLIC_URL"])
@pytest.mark.parametrize("url", ["javascript:alert(1)", "//x", "x"])
def test_page_is_a_web_url(monkeypatch: pytest.MonkeyPatch, name: str, url: str) -> None:
    monkeypatch.setenv(f"SCAN_LOGIN_{name}", url)

    assert "http or https URL" in "".join(mistakes())


@pytest.mark.parametrize("end", ["/", "//", "?", "?a=1", "#", "#top", "/login/", "/login#top"])
def test_public_url_is_the_exact_issuer(monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    """Sites compare the issuer byte for byte, so the broker does not correct it."""
    monkeypatch.setenv("SCAN_LOGIN_ALLOW_PRETEND", "true")
    monkeypatch.setenv("SCAN_LOGIN_PUBLIC_URL", f"https://login.example{end}")

    [mistake] = mistakes()

    assert mistake.startswith("SCAN_LOGIN_PUBLIC_URL: use an http or https URL")
    assert "a slash at the end" in mistake


@pytest.mark.parametrize("url", ["https://login.example", "https://LOGIN.example:443/a/B"])
def test_public_url_is_not_changed(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("SCAN_LOGIN_ALLOW_PRETEND", "true")
    monkeypatch.setenv("SCAN_LOGIN_PUBLIC_URL", url)

    assert values()["public_url"] == url


@pytest.mark.parametrize("value", ["5", "[1, 2]", "{}"])
def test_toml_value_of_wrong_type_is_refused(tmp_path: Path, value: str) -> None:
    file = tmp_path / "scan-login.toml"
    file.write_text(f"origins = {value}\n")

    assert "SCAN_LOGIN_ORIGINS" in mistakes(file)[0]


def test_events_of_default_app_need_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCAN_LOGIN_EVENTS_URL", "https://site.example/events")

    assert "SCAN_LOGIN_WEBHOOK_SECRET: missing" in mistakes()[0]


def test_webhook_secret_of_wrong_form_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCAN_LOGIN_WEBHOOK_SECRET", "canary")

    [mistake] = mistakes()

    assert "use whsec_ and 24 to 64 bytes" in mistake
    assert "canary" not in mistake


def test_toml_table_is_named_with_remedy(tmp_path: Path) -> None:
    file = tmp_path / "scan-login.toml"
    file.write_text("[server]\nport = 8000\n")

    assert find_values(file).unknown == [
        f"[server]: settings are not in tables; remove this line (from file {file})"
    ]


@pytest.mark.parametrize("content", ["port = ", "port = [", "\xff"])
def test_invalid_toml_file_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(content, encoding="latin-1")

    assert mistakes(file)[0].startswith(str(file))


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("PORT", "http", "must be an integer"),
        ("DRAIN", "soon", "must be a number"),
        ("ALLOW_PRETEND", "maybe", "must be true or false"),
        ("WORKERS", "0", "must be at least 1"),
        ("WORKERS", "257", "must be at most 256"),
        ("TOKEN_LIFETIME", "0", "must be greater than 0"),
        ("ADMIN_TOKEN", "short", "must have at least 32 characters"),
        ("INSTANCE", "a b", "must match ^[A-Za-z0-9._-]{1,64}$"),
    ],
)
def test_value_out_of_range_states_the_rule(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, reason: str
) -> None:
    monkeypatch.setenv(f"SCAN_LOGIN_{name}", value)

    assert mistakes() == [f"SCAN_LOGIN_{name}: {reason}"]


def test_missing_toml_file_is_named(tmp_path: Path) -> None:
    assert "missing.toml" in mistakes(tmp_path / "missing.toml")[0]


WECHAT = {"PROVIDER": "wechat", "WECHAT_APPID": "wx0123456789abcdef", "WECHAT_SECRET": "hunter2"}


def test_provider_wechat_needs_appid_and_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCAN_LOGIN_PROVIDER", "wechat")

    assert [line.split(":")[0] for line in mistakes()] == [
        "SCAN_LOGIN_WECHAT_APPID",
        "SCAN_LOGIN_WECHAT_SECRET",
    ]


def test_secret_in_mounted_file_is_read_and_hidden(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SCAN_LOGIN_PROVIDER", "wechat")
    (tmp_path / "secret").write_text("hunter2\n")
    monkeypatch.setenv("SCAN_LOGIN_WECHAT_APPID", WECHAT["WECHAT_APPID"])
    monkeypatch.setenv("SCAN_LOGIN_WECHAT_SECRET_FILE", str(tmp_path / "secret"))

    settings = load_settings()

    secret = settings[WeChatSettings].wechat_secret
    assert secret is not None
    assert secret.get_secret_value() == "hunter2"
    assert "hunter2" not in f"{settings!r} {list(settings)} {settings.values()}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("APPID", "gh_0123456789ab"),
        ("API_URL", "http://api.weixin.qq.com"),
        ("API_URL", "api.weixin.qq.com"),
        ("API_URL", "https://proxy.example/?to=wechat"),
        ("PAGE", "/pages/index/wsLogin"),
        ("PAGE", "pages/index/wsLogin?a=b"),
        ("ENV_VERSION", "beta"),
        ("WIDTH", "279"),
        ("WIDTH", "1281"),
        ("CODES_PER_MINUTE", "4501"),
    ],
)
def test_value_that_wechat_refuses_is_a_mistake(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    for key, text in {**WECHAT, f"WECHAT_{name}": value}.items():
        monkeypatch.setenv(f"SCAN_LOGIN_{key}", text)

    [mistake] = mistakes()

    assert mistake.startswith(f"SCAN_LOGIN_WECHAT_{name}: ")
    assert "hunter2" not in mistake


WHSEC = "whsec_Y2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5LWNhbmFyeS0="


@pytest.mark.parametrize(
    ("url", "private", "sentence"),
    [
        ("unknown", False, "use open, sql, or the https URL of a webhook"),
        ("ftp://site.example/hook", False, "use open, sql, or the https URL of a webhook"),
        ("https:", False, "use open, sql, or the https URL of a webhook"),
        ("https://", True, "use open, sql, or the https URL of a webhook"),
        ("https://site.example:70000/hook", False, "its port is not a number"),
        ("https://user:canary@site.example/hook", False, "use no port 0, and no password"),
        ("http://site.example/hook", True, "can read the ids"),
        ("http://10.0.0.1/hook", True, "can read the ids"),
        ("http://127.0.0.1/hook", False, "can read the ids"),
        ("https://10.0.0.1/hook", False, "10.0.0.1 is not a public address"),
        ("https://[::1]/hook", False, "::1 is not a public address"),
        ("https://localhost/hook", False, "localhost is not a public address"),
    ],
)
def test_webhook_url_must_be_public_https(
    monkeypatch: pytest.MonkeyPatch, url: str, private: bool, sentence: str
) -> None:
    monkeypatch.setenv("SCAN_LOGIN_DIRECTORY", url)
    monkeypatch.setenv("SCAN_LOGIN_DIRECTORY_PRIVATE", str(private))
    monkeypatch.setenv("SCAN_LOGIN_DIRECTORY_SECRET", WHSEC)

    [mistake] = mistakes()

    assert mistake.startswith("SCAN_LOGIN_DIRECTORY: ")
    assert sentence in mistake
    assert "canary" not in mistake


@pytest.mark.parametrize(
    ("url", "private"),
    [
        ("https://site.example/hook", False),
        ("https://1.1.1.1/hook", False),
        ("https://10.0.0.1/hook", True),
        ("http://127.0.0.1:8080/hook", True),
    ],
)
def test_webhook_without_secret_is_refused(
    monkeypatch: pytest.MonkeyPatch, url: str, private: bool
) -> None:
    monkeypatch.setenv("SCAN_LOGIN_DIRECTORY", url)
    monkeypatch.setenv("SCAN_LOGIN_DIRECTORY_PRIVATE", str(private))

    [mistake] = mistakes()

    assert mistake.startswith("SCAN_LOGIN_DIRECTORY_SECRET: missing")


def test_several_webhook_secrets_are_read_and_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCAN_LOGIN_DIRECTORY_SECRET", f"{WHSEC},{WHSEC}")

    group = load_settings()[DirectorySettings]

    assert [secret.get_secret_value() for secret in group.directory_secret] == [WHSEC, WHSEC]
    assert WHSEC not in str(group)


def test_directory_named_like_a_scheme_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCAN_LOGIN_DIRECTORY", "https")

    assert mistakes() == ["SCAN_LOGIN_DIRECTORY: use open, sql, or the https URL of a webhook"]


def test_setting_is_in_one_group() -> None:
    names = [name for group in GROUPS for name in group.model_fields]

    assert len(names) == len(set(names))


def test_unknown_fixed_setting_is_refused() -> None:
    with pytest.raises(TypeError, match="unknown settings: prot"):
        load_settings(prot=1)


def test_replaced_value_leaves_other_settings() -> None:
    settings = load_settings()

    changed = settings.replace(PoolSettings, pool_size=7)

    assert changed[PoolSettings].pool_size == 7
    assert changed.values() == {**settings.values(), "pool_size": 7}


def test_group_without_values_is_refused() -> None:
    with pytest.raises(InvalidGroup, match="PoolSettings"):
        Settings([])[PoolSettings]


def test_mistake_of_several_fields_hides_passwords() -> None:
    assert str(InvalidField("state_url", "is redis://u:canary@h")) == (
        "SCAN_LOGIN_STATE_URL: is redis://u:[hidden]@h"
    )
