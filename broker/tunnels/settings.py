"""Settings of tunnels."""

from __future__ import annotations

from pydantic import Field, model_validator

from broker.infrastructure.settings import InvalidField, Seconds, SettingsGroup
from broker.tunnels.ports import AWAY_TIMEOUT_MAX


class TunnelSettings(SettingsGroup):
    tunnel_max: int = Field(10_000, gt=0, description="tunnels of one app, over all instances")
    tunnel_ping_interval: Seconds = Field(
        25, description="seconds between two pings of a tunnel's client"
    )
    tunnel_idle_timeout: Seconds = Field(
        60, description="seconds without a frame after which a tunnel's socket is dropped"
    )
    tunnel_away_timeout: int = Field(
        120,
        gt=0,
        le=AWAY_TIMEOUT_MAX,
        description="seconds without a socket after which a tunnel ends, at most 86400",
    )
    tunnel_messages_per_second: int = Field(
        20, gt=0, description="messages that one tunnel may send to its app"
    )

    @model_validator(mode="after")
    def _check_intervals(self) -> TunnelSettings:
        if self.tunnel_ping_interval >= self.tunnel_idle_timeout:
            raise InvalidField(
                "tunnel_ping_interval", "must be less than SCAN_LOGIN_TUNNEL_IDLE_TIMEOUT"
            )
        return self
