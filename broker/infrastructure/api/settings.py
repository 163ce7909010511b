"""Settings of the API: client addresses and rate limits."""

from __future__ import annotations

import ipaddress
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from broker.infrastructure.settings import SettingsGroup, StringList, one_of


def check_networks(value: tuple[str, ...]) -> tuple[str, ...]:
    for network in value:
        ipaddress.ip_network(network)
    return value


class APISettings(SettingsGroup):
    trusted_proxies: Annotated[StringList, AfterValidator(check_networks)] = Field(
        (),
        description="addresses or networks of proxies whose `SCAN_LOGIN_FORWARDED_HEADER` is "
        "trusted, separated by commas",
    )
    forwarded_header: Annotated[
        str, StringConstraints(to_lower=True), one_of(("x-forwarded-for", "forwarded"))
    ] = Field(
        "x-forwarded-for",
        description="header in which trusted proxies name the client: `x-forwarded-for`, or "
        "`forwarded` (RFC 7239); the other one is ignored",
    )
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
