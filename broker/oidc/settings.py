"""Settings of the OpenID Connect provider."""

from __future__ import annotations

from pydantic import Field

from broker.infrastructure.settings import SettingsGroup

DOMAIN_PATTERN = r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"


class OIDCSettings(SettingsGroup):
    signin_idle: int = Field(
        28_800,
        ge=60,
        le=7_776_000,
        description="seconds without use after which a sign-in session ends",
    )
    signin_lifetime: int = Field(
        604_800,
        ge=60,
        le=7_776_000,
        description="seconds after which a sign-in session ends, however much it is used",
    )
    signin_remember: bool = Field(
        False,
        description="keep the sign-in cookie when the browser closes; default: it is deleted then",
    )
    refresh_grace: int = Field(
        10,
        ge=0,
        le=300,
        description="seconds in which the previous refresh token still works and returns the "
        "same successor; later it counts as stolen",
    )
    refresh_idle: int = Field(
        1_209_600,
        ge=60,
        le=31_536_000,
        description="seconds without use after which refresh tokens end",
    )
    refresh_lifetime: int = Field(
        7_776_000,
        ge=60,
        le=31_536_000,
        description="seconds after which refresh tokens end, however much they are used",
    )
    oidc_email_domain: str | None = Field(
        None,
        pattern=DOMAIN_PATTERN,
        description="domain of the unverified e-mail address `<preferred_username>@<domain>` of "
        "users without one; default: such users have no e-mail address",
    )
