"""Every setting: name, unit, default, meaning.

`sources.py` says where they are read from.  All mistakes are reported at once.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import secrets
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import (
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from broker.blobs import SCHEMES as PICTURE_SCHEMES
from broker.bus import BUSES
from broker.directories import NAMES as DIRECTORIES
from broker.directories.webhook import parse_signing_secret, validate_webhook_url
from broker.errors import InvalidSettings
from broker.infrastructure.crypto.sealing import parse_key
from broker.infrastructure.fields import is_web_url, normalize_origin, parse_origin
from broker.infrastructure.outbound.ssrf import is_loopback
from broker.infrastructure.settings_sources import (
    PREFIX,
    FoundValues,
    collect,
    from_environment,
    variable,
)
from broker.infrastructure.transport import ENGINES
from broker.infrastructure.urls import check_server_url, hide_passwords, split
from broker.providers import NAMES
from broker.records import SCHEMES, is_records_url
from broker.roles import ROLES
from broker.state import STATES
from broker.tokens.keys import ALGORITHMS

APPID_PATTERN = r"^wx[0-9a-zA-Z]{16}$"
"""As WeChat's console says it."""

PUBLIC_URL = re.compile(r"https?://[^/?#@]+(/[\w~-][\w.~-]*)*", re.ASCII | re.IGNORECASE)
"""Its path is a prefix of routes, so it has neither empty segments nor escapes."""

HOST_NAME = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?")

ANY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104  # compared with, not listened on
"""Wildcards for every address of the machine."""

StringList = Annotated[tuple[str, ...], NoDecode]
"""Several values: a TOML list, a JSON list, or one string with commas."""

SecretList = Annotated[tuple[SecretStr, ...], NoDecode]
"""The same, of what is never shown again."""

Port = Annotated[int, Field(ge=0, le=65535)]

Seconds = Annotated[int, Field(gt=0)]


CHOICES: Mapping[str, Collection[str]] = {
    "provider": NAMES,
    "code_source": ("live", "pool"),
    "engine": ENGINES,
    "forwarded_header": ("x-forwarded-for", "forwarded"),
    "token_algorithm": ALGORITHMS,
    "log_level": ("debug", "info", "warning", "error"),
    "wechat_env_version": ("release", "trial", "develop"),
}
"""Settings that are one of a few words."""


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True
    )

    host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="addresses to listen on, separated by commas; `::` includes IPv4",
    )
    port: Port = Field(8000, description="port to listen on; 0 selects a free one")
    admin_host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="addresses that serve `/metrics` and `/apps`, separated by commas",
    )
    admin_port: Port = Field(
        9000,
        description="port that serves `/metrics` and `/apps`; 0 selects a free one; if the port "
        "is in use, both are turned off",
    )
    admin_token: SecretStr | None = Field(
        None,
        min_length=32,
        description="token for `/apps` on the admin port, and for `/sessions` of every app, at "
        "least 32 characters; without it there is no `/apps`",
    )
    public_url: str = Field(
        "",
        validate_default=True,
        description="URL at which browsers and phones reach the broker, and the tokens' `iss`; "
        "may have a path; default: `http://<host>:<port>`",
    )
    origins: StringList = Field(
        (),
        validate_default=True,
        description="exact Origins of the pages that may connect; default: the Origin of the "
        "public URL",
    )
    trusted_proxies: StringList = Field(
        (),
        description="addresses or networks of proxies whose `SCAN_LOGIN_FORWARDED_HEADER` is "
        "trusted",
    )
    forwarded_header: Annotated[str, StringConstraints(to_lower=True)] = Field(
        "x-forwarded-for",
        description="header in which trusted proxies name the client: `x-forwarded-for`, or "
        "`forwarded` (RFC 7239); the other one is ignored",
    )
    app_name: str = Field(
        "Example site", min_length=1, description="name of the app `default` on the phone"
    )
    register_url: str | None = Field(
        None, description="page to which the app `default` sends unregistered people"
    )
    state_url: str = Field("memory://", description="storage of logins and sessions")
    bus_url: str | None = Field(
        None, description="URL of the bus, which carries notices; default: the state's URL"
    )
    records_url: str = Field(
        "sqlite+aiosqlite:///scan-login.db", description="database of apps and users"
    )
    records_pgbouncer: bool = Field(
        False,
        description="PostgreSQL is behind PgBouncer in transaction mode: keep no prepared "
        "statements",
    )
    pictures_url: str = Field(
        "",
        validate_default=True,
        description="storage of the codes' pictures; default: the folder `scan-login-pictures` "
        "next to the SQLite file, if there is one",
    )
    pictures_public_url: str = Field(
        "",
        validate_default=True,
        description="URL prefix of pictures for browsers, such as a CDN's address; default: "
        "`<public URL>/codes`",
    )
    pictures_endpoint: str = Field(
        "", description="URL of an S3-compatible store that is not Amazon's"
    )
    seal_keys: SecretList = Field(
        (),
        description="keys that encrypt apps' secrets, newest first, each 32 bytes in base64; "
        "default: the keys in the seal file",
    )
    seal_file: Path = Field(
        Path("scan-login-seal.json"),
        description="file with the keys that encrypt apps' secrets; created at the first start",
    )
    trail_lifetime: Seconds = Field(
        7_776_000, description="seconds for which the audit trail keeps an ended login"
    )
    replicas: int = Field(
        0,
        ge=0,
        validate_default=True,
        description="replicas that must hold a confirm or a redeem before it counts; 0 waits "
        "for none",
    )
    workers: int = Field(
        1,
        ge=1,
        le=256,
        description="processes that share the port, each a separate instance",
    )
    roles: StringList = Field(
        (),
        validate_default=True,
        description=f"parts of the API that this process serves, of {', '.join(ROLES)}; default: "
        "all",
    )
    drain: float = Field(
        2,
        ge=0,
        le=60,
        description="seconds between a SIGTERM and the end of listening, so that load balancers "
        "can react",
    )
    engine: str = Field(
        "own", description="Engine.IO implementation: `own`, or `stock` (python-engineio)"
    )
    provider: str = Field(
        "pretend", description="draws codes and verifies phones: `pretend` or `wechat`"
    )
    phone_page_url: str = Field(
        "http://127.0.0.1:8090/",
        max_length=500,
        description="URL that the pretend provider's codes open",
    )
    allow_pretend: bool = Field(
        False,
        validate_default=True,
        description="allow the pretend provider, with which anyone can log in as anyone, on an "
        "address that other machines can reach",
    )
    wechat_appid: str | None = Field(
        None,
        pattern=APPID_PATTERN,
        validate_default=True,
        description="AppID of the mini program",
    )
    wechat_secret: SecretStr | None = Field(
        None, validate_default=True, description="AppSecret of the mini program; never shown"
    )
    wechat_api_url: str = Field(
        "https://api.weixin.qq.com", description="URL of WeChat's server API"
    )
    wechat_page: str = Field(
        "pages/index/wsLogin",
        pattern=r"^[\w-]+(/[\w-]+)*$",
        description="page of the mini program that codes open, without a leading slash",
    )
    wechat_env_version: str = Field(
        "release", description="version of the mini program that codes open"
    )
    wechat_check_path: bool = Field(
        True, description="let WeChat reject a page that the released version does not have"
    )
    wechat_width: int = Field(430, ge=280, le=1280, description="width of a code, in pixels")
    wechat_codes_per_minute: int = Field(
        4500,
        gt=0,
        le=4500,
        description="codes that this process may draw per minute; WeChat allows 5 000 for all "
        "processes together",
    )
    directory_private: bool = Field(
        False, description="allow the site's webhook to have an address that is not public"
    )
    directory: str = Field(
        "open",
        description="maps identities to subjects: `open`, `sql`, or the https URL of a site's "
        "webhook",
    )
    directory_secret: SecretList = Field(
        (),
        validate_default=True,
        description="secret that signs requests to the webhook, `whsec_…`; with several "
        "secrets, each one signs",
    )
    login_lifetime: Seconds = Field(
        120, description="seconds in which a code can be scanned and confirmed"
    )
    register_lifetime: Seconds = Field(
        600,
        le=3600,
        description="seconds that an unregistered person has to register and confirm again",
    )
    code_source: str = Field(
        "live",
        description="source of codes for the app `default`: `live`, drawn for each login, or "
        "`pool`, drawn in advance",
    )
    pool_size: int = Field(
        100,
        ge=1,
        le=100_000,
        description="minimum number of codes in a pool; the pool grows with demand",
    )
    pool_max: int = Field(
        10_000,
        ge=1,
        le=100_000,
        validate_default=True,
        description="maximum number of codes in a pool",
    )
    pool_rest: Seconds = Field(600, description="cooldown of a code between two logins, in seconds")
    pool_uses: int = Field(
        100, gt=0, description="logins after which a code of the pool is replaced"
    )
    pool_age: int = Field(
        7_776_000,
        ge=0,
        description="seconds after which a code of the pool is replaced; 0: never",
    )
    pool_per_minute: int = Field(
        1500,
        gt=0,
        le=4500,
        description="codes drawn per minute for a pool that needs codes; WeChat allows a mini "
        "program 5 000, for all its pools and live codes together",
    )
    session_lifetime: Seconds = Field(
        2_592_000, description="lifetime of a phone's session after its login, in seconds"
    )
    session_idle: Seconds | None = Field(
        None, description="seconds after which an unused session ends; default: no limit"
    )
    token_lifetime: Seconds = Field(600, description="lifetime of a token, in seconds")
    token_algorithm: str = Field("ES256", description="signing algorithm of tokens")
    key_file: Path = Field(
        Path("scan-login-keys.json"),
        description="file with the signing keys of tokens; created at the first start",
    )
    interval: Seconds = Field(2, description="seconds between two polls of the token endpoint")
    begins_per_minute: int = Field(
        600,
        gt=0,
        description="logins that one address may begin per minute, and `js_code`s that it may "
        "send without getting a session; an app's own servers may open ten times as "
        "many sessions",
    )
    misses_per_minute: int = Field(
        120,
        gt=0,
        description="wrong secrets, scenes or invitations per minute from one address or "
        "person; correct ones are always accepted",
    )
    socket_packets_per_minute: int = Field(
        600,
        gt=0,
        description="WebSocket frames or polling packets that one Socket.IO connection may send "
        "per minute; a connection over the limit is closed",
    )
    address_packets_per_minute: int = Field(
        60_000,
        gt=0,
        description="the same limit for all connections of one address together; a new "
        "connection may still send 32",
    )
    polling_sessions_per_address: int = Field(
        2_000,
        gt=0,
        description="Socket.IO sessions over long polling that one address may have open",
    )
    instance: str = Field(
        default_factory=lambda: secrets.token_hex(4),
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="name of this process on the bus; default: random",
    )
    log_level: Annotated[str, StringConstraints(to_lower=True)] = Field(
        "info", description="lowest level that is logged: debug, info, warning or error"
    )

    # A validator sees the fields above its own: that is why the order is as it is.
    @field_validator(
        "origins", "trusted_proxies", "roles", "seal_keys", "directory_secret", mode="before"
    )
    @classmethod
    def _words(cls, value: Any) -> Any:
        return _split_words(value)

    @field_validator("host", "admin_host", mode="before")
    @classmethod
    def _hosts(cls, value: Any) -> Any:
        return ",".join(map(_host, _split_words(value)))

    @field_validator("public_url")
    @classmethod
    def _public_url(cls, value: str, info: ValidationInfo) -> str:
        host, port = info.data.get("host", "127.0.0.1"), info.data.get("port", 8000)
        first = host.partition(",")[0]
        if not value and first in ANY_ADDRESS:
            raise ValueError(
                f"is missing: browsers cannot open {PREFIX}HOST, {first}; set the URL by which "
                "they reach the broker, such as https://login.example"
            )
        url = value.rstrip("/") or f"http://{f'[{first}]' if ':' in first else first}:{port}"
        if not is_web_url(url) or not PUBLIC_URL.fullmatch(url):
            raise ValueError(
                "use an http or https URL such as https://login.example or "
                "https://site.example/login, without user, query and fragment"
            )
        return url

    @field_validator("register_url", "phone_page_url")
    @classmethod
    def _page(cls, value: str | None) -> str | None:
        if value is not None and not is_web_url(value):
            raise ValueError("use an http or https URL")
        return value

    @field_validator("wechat_appid", "wechat_secret")
    @classmethod
    def _wechat_needs(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None and info.data.get("provider") == "wechat":
            raise ValueError("the provider wechat wants one: it stands in WeChat's console")
        return value

    @field_validator("wechat_api_url")
    @classmethod
    def _kept_secret(cls, value: str) -> str:
        if not is_web_url(value) or urlsplit(value).query:
            raise ValueError("use an http or https URL")
        parts = urlsplit(value)
        if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            raise ValueError("the AppSecret would travel in the clear: want https")
        return value

    @field_validator("directory")
    @classmethod
    def _directory(cls, value: str, info: ValidationInfo) -> str:
        name = split(value).scheme or value
        if name not in DIRECTORIES or (name != value and not is_web_url(value)):
            raise ValueError("want open, sql, or the https URL of a webhook")
        if name != value:
            validate_webhook_url(
                value, allow_private_address=info.data.get("directory_private", False)
            )
        return value

    @field_validator("directory_secret")
    @classmethod
    def _directory_secret(
        cls, value: tuple[SecretStr, ...], info: ValidationInfo
    ) -> tuple[SecretStr, ...]:
        for secret in value:
            parse_signing_secret(secret.get_secret_value())
        if not value and urlsplit(info.data.get("directory") or "").scheme:
            raise ValueError(
                "a webhook wants one: echo whsec_$(openssl rand -base64 32), here and there"
            )
        return value

    @field_validator("origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        own = [normalize_origin(url) for url in [info.data.get("public_url")] if url]
        return tuple(parse_origin(text) for text in value) or tuple(own)

    @field_validator("trusted_proxies")
    @classmethod
    def _proxies(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            ipaddress.ip_network(network)
        return value

    @field_validator("state_url", "bus_url")
    @classmethod
    def _scheme(cls, value: str | None, info: ValidationInfo) -> str | None:
        known = STATES if info.field_name == "state_url" else BUSES
        if value is not None and value.partition("://")[0].lower() not in known:
            raise ValueError(
                f"want a URL that begins with one of {_list(f'{s}://' for s in known)}"
            )
        if value is not None:
            check_server_url(value)
        return value

    @field_validator("records_url")
    @classmethod
    def _records(cls, value: str) -> str:
        if not value.startswith("sqlite"):
            check_server_url(value)
        if not is_records_url(value):
            raise ValueError(
                f"want a URL that begins with one of {_list(f'{s}://' for s in SCHEMES)}, "
                "and for SQLite a file: sqlite+aiosqlite:///scan-login.db"
            )
        return value

    @field_validator("records_pgbouncer")
    @classmethod
    def _pgbouncer(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("records_url", "").startswith("sqlite"):
            raise ValueError("the records are in a SQLite file: remove it, or set RECORDS_URL")
        return value

    @field_validator("pictures_url")
    @classmethod
    def _pictures(cls, value: str, info: ValidationInfo) -> str:
        url = value or _pictures_folder(info.data.get("records_url", "")).as_uri()
        parts = split(url)
        if "@" in parts.netloc:
            raise ValueError(
                "must not contain user or password: use variables such as AWS_ACCESS_KEY_ID"
            )
        whole = parts.path.startswith("/") if parts.scheme == "file" else parts.netloc
        if parts.scheme not in PICTURE_SCHEMES or not whole:
            raise ValueError(
                "want a URL such as file:///var/lib/scan-login/pictures or s3://bucket/folder, "
                f"which begins with one of {_list(f'{s}://' for s in PICTURE_SCHEMES)}"
            )
        return url

    @field_validator("pictures_public_url")
    @classmethod
    def _shown_at(cls, value: str, info: ValidationInfo) -> str:
        url = value.rstrip("/") or f"{info.data.get('public_url', '')}/codes"
        if value and (not is_web_url(url) or urlsplit(url).query):
            raise ValueError("use an http or https URL such as https://cdn.example/codes")
        return url

    @field_validator("pictures_endpoint")
    @classmethod
    def _endpoint(cls, value: str, info: ValidationInfo) -> str:
        if value and not is_web_url(value):
            raise ValueError("use an http or https URL such as https://s3.example")
        if value and urlsplit(info.data.get("pictures_url", "")).scheme != "s3":
            raise ValueError(f"an endpoint is for {PREFIX}PICTURES_URL=s3://… alone")
        return value

    @field_validator("seal_keys")
    @classmethod
    def _seal_keys(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for key in value:
            parse_key(key.get_secret_value())
        return value

    @field_validator("workers")
    @classmethod
    def _workers_share(cls, value: int, info: ValidationInfo) -> int:
        state_url = info.data.get("state_url", "")
        urls = {"STATE_URL": state_url, "BUS_URL": info.data.get("bus_url") or state_url}
        alone = [name for name, url in urls.items() if urlsplit(url).scheme == "memory"]
        if value > 1 and alone:
            raise ValueError(
                f"{value} processes share nothing while {PREFIX}{alone[0]} is memory://: "
                "want a server that all of them reach"
            )
        return value

    @field_validator("roles")
    @classmethod
    def _roles(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for role in value:
            if role not in ROLES:
                raise ValueError(f"{role!r} is unknown: want some of {', '.join(ROLES)}")
        return tuple(role for role in ROLES if role in value) or ROLES

    @field_validator("pool_max")
    @classmethod
    def _holds_least(cls, value: int, info: ValidationInfo) -> int:
        size = info.data.get("pool_size", 0)
        if value < size:
            raise ValueError(f"want at least {PREFIX}POOL_SIZE, {size}")
        return value

    @field_validator("replicas")
    @classmethod
    def _has_replicas(cls, value: int, info: ValidationInfo) -> int:
        scheme = urlsplit(info.data.get("state_url") or "").scheme
        if value and (scheme == "memory" or scheme.endswith("cluster")):
            raise ValueError(f"the state {scheme}:// cannot wait for replicas")
        return value

    @field_validator(*CHOICES)
    @classmethod
    def _choice(cls, value: str, info: ValidationInfo) -> str:
        known = CHOICES[info.field_name or ""]
        if value not in known:
            raise ValueError(f"{value!r} is unknown: want one of {_list(known)}")
        return value

    @field_validator("allow_pretend")
    @classmethod
    def _pretend_stays_home(cls, value: bool, info: ValidationInfo) -> bool:
        data = info.data
        public = _public_hosts(data.get("host", ""), data.get("public_url", ""))
        if data.get("provider") == "pretend" and public and not value:
            raise ValueError(
                f"the pretend provider lets anyone log in as anyone, and other machines can reach "
                f"{public[0]}: set {PREFIX}PROVIDER=wechat (see docs/wechat.md), or "
                f"{PREFIX}ALLOW_PRETEND=true for a trial in a network that you trust"
            )
        return value

    @property
    def may_pretend(self) -> bool:
        """Whether an app may have the pretend provider, whatever the settings' own is."""
        return self.allow_pretend or not _public_hosts(self.host, self.public_url)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, _Environment(settings_cls)


class _Environment(PydanticBaseSettingsSource):
    """The environment, without Kubernetes service links."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return self().get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        return dict(from_environment(self.settings_cls.model_fields, os.environ))


def _split_words(value: Any) -> tuple[str, ...]:
    """Several values: a list, a JSON list, or one string with commas or spaces."""
    if isinstance(value, str):
        text = value.strip()
        value = _json_list(text) if text.startswith("[") else re.split(r"[,\s]+", text)
    if not isinstance(value, list | tuple) or not all(isinstance(word, str) for word in value):
        raise ValueError("use a list of words")
    return tuple(word for word in value if word != "")


def _host(text: str) -> str:
    """An address in its usual form, or a host name."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        if HOST_NAME.fullmatch(text):
            return text
    raise ValueError("use an address such as 127.0.0.1 or ::, without port and brackets")


def _json_list(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise ValueError("use a JSON list, or values separated by commas") from None


def _public_hosts(host: str, public_url: str) -> list[str]:
    """The addresses by which other machines can reach the broker."""
    names = [*host.split(","), urlsplit(public_url).hostname]
    return [name for name in names if name and not is_loopback(name)]


def find_values(file: Path | None = None) -> FoundValues:
    """The values of the environment and the file, not yet validated."""
    return collect(Settings.model_fields, os.environ, file)


def load_settings(file: Path | None = None, **fixed: Any) -> Settings:
    """Read all settings except those that are `fixed`.

    Raises InvalidSettings with all mistakes.
    """
    found = find_values(file)
    try:
        settings = Settings(**{**found.values, **fixed})
    except ValidationError as error:
        raise InvalidSettings(found.mistakes + [_mistake(one) for one in error.errors()]) from None
    if found.mistakes:
        raise InvalidSettings(found.mistakes)
    return settings


def _mistake(error: Any) -> str:
    reason = hide_passwords(error["msg"].removeprefix("Value error, "))
    return f"{variable(str(error['loc'][0]))}: {reason}"


def _pictures_folder(records_url: str) -> Path:
    """Beside the file of SQLite's, else where the command runs."""
    parts = urlsplit(records_url)
    beside = Path(parts.path[1:]).parent if parts.scheme.startswith("sqlite") else Path()
    return (beside / "scan-login-pictures").absolute()


def _list(words: Iterable[str]) -> str:
    return ", ".join(sorted(words))
