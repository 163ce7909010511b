"""Settings: where they come from, and every mistake at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.errors import InvalidSettings
from broker.infrastructure.runtime.settings import ENGINES
from broker.infrastructure.settings import InvalidField, InvalidGroup, Settings
from broker.infrastructure.transport import ENGINES as TRANSPORT_ENGINES
from broker.pool.settings import PoolSettings
from broker.settings import GROUPS, load_settings


def mistakes(file: Path | None = None) -> list[str]:
    with pytest.raises(InvalidSettings) as wrong:
        load_settings(file)
    return str(wrong.value).splitlines()


def test_the_defaults_are_the_documented_ones() -> None:
    settings = load_settings()

    assert (settings.host, settings.port, settings.admin_port) == ("127.0.0.1", 8000, 9000)
    assert settings.public_url == "http://127.0.0.1:8000"
    assert settings.origins == ("http://127.0.0.1:8000",)
    assert (settings.state_url, settings.bus_url) == ("memory://", None)
    assert settings.records_url == "sqlite+aiosqlite:///scan-login.db"
    assert (settings.provider, settings.directory) == ("pretend", "open")
    assert settings.login_lifetime == 120
    assert settings.instance != load_settings().instance


def test_the_environment_weighs_more_than_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "scan-login.toml"
    file.write_text(
        'port = 1\nscan_login_app_name = "From the file"\norigins = ["http://a.example"]\n'
    )
    monkeypatch.setenv("SCAN_LOGIN_PORT", "2")

    settings = load_settings(file)

    assert (settings.port, settings.app_name) == (2, "From the file")
    assert settings.origins == ("http://a.example",)


def test_a_secret_may_stand_in_a_file_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "name").write_text("A shop\n")
    (tmp_path / "scan-login.toml").write_text('app_name = "From the TOML file"\n')
    monkeypatch.setenv("SCAN_LOGIN_APP_NAME_FILE", str(tmp_path / "name"))
    assert load_settings(tmp_path / "scan-login.toml").app_name == "A shop"

    monkeypatch.setenv("SCAN_LOGIN_APP_NAME_FILE", str(tmp_path / "nowhere"))
    assert "SCAN_LOGIN_APP_NAME_FILE: cannot read" in mistakes()[0]


@pytest.mark.parametrize(
    "text",
    [
        "http://a.example,https://b.example:8443",
        '["http://a.example", "https://b.example:8443"]',
        " http://a.example  https://b.example:8443 ",
    ],
)
def test_several_origins_in_one_variable(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SCAN_LOGIN_ORIGINS", text)

    assert load_settings().origins == ("http://a.example", "https://b.example:8443")


def test_every_mistake_is_reported_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {
        "PORT": "70000",
        "LOGIN_LIFETIME": "-1",
        "STATE_URL": "etcd://",
        "RECORDS_URL": "mysql://u:hunter2@h/db",
        "ADMIN_TOKEN": "too-short-canary",
        "BUS_URL": "smoke://",
        "ORIGINS": "https://a.example/path",
        "PUBLIC_URL": "ftp://a",
        "PROVIDER": "nobody",
        "DIRECTORY": "phonebook",
        "DIRECTORY_SECRET": "whsec_canary",
        "TOKEN_ALGORITHM": "none",
        "TRUSTED_PROXIES": "10.0.0.0/99",
        "LOG_LEVEL": "loud",
        "INSTANCE": "a b",
    }.items():
        monkeypatch.setenv(f"SCAN_LOGIN_{name}", value)

    said = mistakes()

    names = {line.split(":")[0] for line in said}
    assert names >= {
        "SCAN_LOGIN_PORT",
        "SCAN_LOGIN_LOGIN_LIFETIME",
        "SCAN_LOGIN_STATE_URL",
        "SCAN_LOGIN_RECORDS_URL",
        "SCAN_LOGIN_ADMIN_TOKEN",
        "SCAN_LOGIN_BUS_URL",
        "SCAN_LOGIN_ORIGINS",
        "SCAN_LOGIN_PUBLIC_URL",
        "SCAN_LOGIN_PROVIDER",
        "SCAN_LOGIN_DIRECTORY",
        "SCAN_LOGIN_DIRECTORY_SECRET",
        "SCAN_LOGIN_TOKEN_ALGORITHM",
        "SCAN_LOGIN_TRUSTED_PROXIES",
        "SCAN_LOGIN_LOG_LEVEL",
        "SCAN_LOGIN_INSTANCE",
    }


@pytest.mark.parametrize(
    "origin",
    [
        *("*", "null", "https://a.example/", "a.example", "https://*.example"),
        *("htps://a.example", "file://", "capacitor:localhost", "capacitor://", "app://host/path"),
    ],
)
def test_an_origin_is_exact(monkeypatch: pytest.MonkeyPatch, origin: str) -> None:
    monkeypatch.setenv("SCAN_LOGIN_ORIGINS", origin)

    assert "is not an Origin" in mistakes()[0]


@pytest.mark.parametrize("name", ["HOST", "PUBLIC_URL"])
def test_the_pretend_provider_stays_at_home(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(
        f"SCAN_LOGIN_{name}", "192.0.2.1" if name == "HOST" else "https://login.example"
    )
    [mistake] = mistakes()
    provider, pretend = mistake.index("PROVIDER=wechat"), mistake.index("ALLOW_PRETEND=true")
    assert provider < pretend

    monkeypatch.setenv("SCAN_LOGIN_ALLOW_PRETEND", "true")
    assert load_settings().allow_pretend


@pytest.mark.parametrize("name", ["BUS_URL", "INSTANCE", "PUBLIC_URL", "ORIGINS"])
def test_what_is_empty_counts_as_not_set(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"SCAN_LOGIN_{name}", "")

    assert getattr(load_settings(), name.lower()) or name == "BUS_URL"


@pytest.mark.parametrize(
    ("host", "url"), [("127.0.0.2", "http://127.0.0.2:81"), ("::1", "http://[::1]:81")]
)
def test_the_public_url_follows_host_and_port(
    monkeypatch: pytest.MonkeyPatch, host: str, url: str
) -> None:
    monkeypatch.setenv("SCAN_LOGIN_HOST", host)
    monkeypatch.setenv("SCAN_LOGIN_PORT", "81")

    assert (load_settings().public_url, load_settings().origins) == (url, (url,))


def test_a_pool_grows_to_no_less_than_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCAN_LOGIN_POOL_SIZE", "20000")

    assert mistakes() == ["SCAN_LOGIN_POOL_MAX: use at least SCAN_LOGIN_POOL_SIZE, 20000"]


@pytest.mark.parametrize("name", ["REGISTER_URL", "PHONE_PAGE_URL", "PUBLIC_URL"])
@pytest.mark.parametrize("url", ["javascript:alert(1)", "//x", "nowhere"])
def test_an_address_is_a_web_address(monkeypatch: pytest.MonkeyPatch, name: str, url: str) -> None:
    monkeypatch.setenv(f"SCAN_LOGIN_{name}", url)

    assert "http or https URL" in "".join(mistakes())


@pytest.mark.parametrize("value", ["5", "[1, 2]", "{}"])
def test_a_list_in_the_file_is_a_list(tmp_path: Path, value: str) -> None:
    file = tmp_path / "scan-login.toml"
    file.write_text(f"origins = {value}\n")

    assert "SCAN_LOGIN_ORIGINS" in mistakes(file)[0]


@pytest.mark.parametrize("content", ["port = ", "port = [", "\xff"])
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(content, encoding="latin-1")

    assert mistakes(file)[0].startswith(str(file))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "nowhere.toml" in mistakes(tmp_path / "nowhere.toml")[0]


WECHAT = {"PROVIDER": "wechat", "WECHAT_APPID": "wx0123456789abcdef", "WECHAT_SECRET": "hunter2"}


def test_the_provider_wechat_wants_an_appid_and_a_secret(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SCAN_LOGIN_PROVIDER", "wechat")
    said = mistakes()
    assert [line.split(":")[0] for line in said] == [
        "SCAN_LOGIN_WECHAT_APPID",
        "SCAN_LOGIN_WECHAT_SECRET",
    ]

    (tmp_path / "secret").write_text("hunter2\n")
    monkeypatch.setenv("SCAN_LOGIN_WECHAT_APPID", WECHAT["WECHAT_APPID"])
    monkeypatch.setenv("SCAN_LOGIN_WECHAT_SECRET_FILE", str(tmp_path / "secret"))
    settings = load_settings()
    assert settings.wechat_secret is not None
    assert settings.wechat_secret.get_secret_value() == "hunter2"
    assert "hunter2" not in f"{settings!r} {settings}"


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
def test_what_wechat_would_refuse_is_refused_before(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    for key, one in {**WECHAT, f"WECHAT_{name}": value}.items():
        monkeypatch.setenv(f"SCAN_LOGIN_{key}", one)

    [mistake] = mistakes()
    assert mistake.startswith(f"SCAN_LOGIN_WECHAT_{name}: ")
    assert "hunter2" not in mistake


WHSEC = "whsec_Y2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5LWNhbmFyeS0="


@pytest.mark.parametrize(
    ("url", "private", "sentence"),
    [
        ("phonebook", False, "use open, sql, or the https URL of a webhook"),
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
def test_a_webhook_is_asked_by_https_in_public(
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
def test_a_webhook_wants_a_secret_which_is_never_shown(
    monkeypatch: pytest.MonkeyPatch, url: str, private: bool
) -> None:
    monkeypatch.setenv("SCAN_LOGIN_DIRECTORY", url)
    monkeypatch.setenv("SCAN_LOGIN_DIRECTORY_PRIVATE", str(private))
    [mistake] = mistakes()
    assert mistake.startswith("SCAN_LOGIN_DIRECTORY_SECRET: is missing")

    monkeypatch.setenv("SCAN_LOGIN_DIRECTORY_SECRET", f"{WHSEC},{WHSEC}")
    settings = load_settings()
    assert [one.get_secret_value() for one in settings.directory_secret] == [WHSEC, WHSEC]
    assert WHSEC not in f"{settings!r} {settings}"


def test_setting_is_in_one_group() -> None:
    names = [name for group in GROUPS for name in group.model_fields]

    assert len(names) == len(set(names))


def test_engine_names_are_those_of_the_transport() -> None:
    assert set(ENGINES) == set(TRANSPORT_ENGINES)


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
