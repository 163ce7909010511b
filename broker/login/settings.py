"""Settings of logins."""

from __future__ import annotations

from pydantic import Field

from broker.apps.rules import LIFETIME_MAX
from broker.infrastructure.settings import Seconds, SettingsGroup


class LoginSettings(SettingsGroup):
    login_lifetime: Seconds = Field(
        120, le=LIFETIME_MAX, description="seconds in which a code can be scanned and confirmed"
    )
    register_lifetime: Seconds = Field(
        600,
        le=3600,
        description="seconds that an unregistered person has to register and confirm again",
    )
    scans_max: int = Field(
        3, ge=1, le=100, description="other people whose scans of a code end its login"
    )
    interval: Seconds = Field(2, description="seconds between two polls of the token endpoint")
