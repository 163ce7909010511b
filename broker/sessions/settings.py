"""Settings of phone sessions."""

from __future__ import annotations

from pydantic import Field

from broker.infrastructure.settings import Seconds, SettingsGroup


class SessionSettings(SettingsGroup):
    session_lifetime: Seconds = Field(
        2_592_000, description="lifetime of a phone's session after its login, in seconds"
    )
    session_idle: Seconds | None = Field(
        None, description="seconds after which an unused session ends; default: no limit"
    )
