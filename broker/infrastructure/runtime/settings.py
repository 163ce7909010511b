"""Settings of the process: addresses, workers, roles, logs."""

from __future__ import annotations

import ipaddress
import re
import secrets
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    StringConstraints,
    model_validator,
)

from broker.infrastructure.fields import is_web_url
from broker.infrastructure.outbound.ssrf import is_loopback
from broker.infrastructure.settings import (
    InvalidField,
    Port,
    SettingsGroup,
    StringList,
    one_of,
    split_words,
)
from broker.infrastructure.settings_sources import PREFIX
from broker.infrastructure.urls import url_host

LOG_LEVELS = ("debug", "info", "warning", "error")

PUBLIC_URL_PATTERN = re.compile(r"https?://[^/?#@]+(/[\w~-][\w.~-]*)*", re.ASCII | re.IGNORECASE)
"""The path is a prefix of routes, so it has no empty segments and no escapes."""

HOST_NAME_PATTERN = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?")

ANY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104  # compared with, not listened on
"""Wildcards for every address of the machine."""


def parse_hosts(value: Any) -> str:
    return ",".join(map(_parse_host, split_words(value)))


def _parse_host(text: str) -> str:
    """Return an address in its usual form, or a host name."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        if HOST_NAME_PATTERN.fullmatch(text):
            return text
    raise ValueError("use an address such as 127.0.0.1 or ::, without port and brackets")


def check_public_url(value: str) -> str:
    """Return `value` unchanged: it is the issuer, which sites compare byte for byte."""
    if value and not (is_web_url(value) and PUBLIC_URL_PATTERN.fullmatch(value)):
        raise ValueError(
            "use an http or https URL such as https://login.example or "
            "https://site.example/login, without user, query, fragment and a slash at the end"
        )
    return value


Hosts = Annotated[str, BeforeValidator(parse_hosts), Field(min_length=1)]


class ServerSettings(SettingsGroup):
    host: Hosts = Field(
        "127.0.0.1",
        description="addresses to listen on, separated by commas; `::` includes IPv4",
    )
    port: Port = Field(8000, description="port to listen on; 0 selects a free one")
    admin_host: Hosts = Field(
        "127.0.0.1",
        description="addresses that serve `/metrics` and the admin page, separated by commas",
    )
    admin_port: Port = Field(
        9000,
        description="port that serves `/metrics` and the admin page; 0 selects a free one; if the "
        "port is in use, both are turned off",
    )
    admin_token: SecretStr | None = Field(
        None,
        min_length=32,
        description="token for the admin page and its calls, and for `/sessions` of every app, at "
        "least 32 characters; without it the admin port has no page",
    )
    public_url: Annotated[str, AfterValidator(check_public_url)] = Field(
        "",
        description="URL at which browsers and phones reach the broker, and the tokens' `iss`; "
        "may have a path, but no slash at the end; default: `http://<host>:<port>`",
    )
    workers: int = Field(
        1,
        ge=1,
        le=256,
        description="processes that share the port, each a separate instance",
    )
    roles: StringList = Field(
        (),
        description="parts of the API that this process serves, separated by commas, of browser, "
        "phone, oauth, sessions, tunnels, wafer, oidc, chat, files; default: all, but oidc only "
        "if the public URL is https or loopback",
    )
    drain: float = Field(
        2,
        ge=0,
        le=60,
        description="seconds between a SIGTERM and the end of listening, so that load balancers "
        "can react",
    )
    instance: str = Field(
        default_factory=lambda: secrets.token_hex(4),
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="name of this process on the bus; default: random",
    )
    log_level: Annotated[str, StringConstraints(to_lower=True), one_of(LOG_LEVELS)] = Field(
        "info", description="lowest level that is logged: debug, info, warning or error"
    )

    @model_validator(mode="after")
    def _derive_public_url(self) -> ServerSettings:
        if self.public_url:
            return self
        hosts = self.host.split(",")
        if wildcards := [host for host in hosts if host in ANY_ADDRESS]:
            raise InvalidField(
                "public_url",
                f"missing; browsers cannot open {wildcards[0]} ({PREFIX}HOST); set the URL by "
                "which they reach the broker, such as https://login.example",
            )
        self.derive(public_url=f"http://{url_host(hosts[0])}:{self.port}")
        return self

    def insecure_reason(self) -> str | None:
        """Return why cookies and codes would be readable in the network, or None if not."""
        url = urlsplit(self.public_url)
        if url.scheme == "https" or is_loopback(url.hostname or ""):
            return None
        return f"{PREFIX}PUBLIC_URL is {self.public_url}: OpenID Connect needs https"

    def reachable_hosts(self) -> list[str]:
        """Return the addresses by which other machines can reach the broker."""
        names = [*self.host.split(","), urlsplit(self.public_url).hostname]
        return [name for name in names if name and not is_loopback(name)]
