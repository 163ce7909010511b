"""Errors of the tunnels' calls."""

from __future__ import annotations

from broker.errors import BrokerError, RateLimited


class UnknownTunnel(BrokerError):
    """The tunnel never existed, has closed, or belongs to another app."""

    error, status = "unknown_tunnel", 410
    description = "the tunnel has closed or never existed"


class TooManyTunnels(RateLimited):
    """A session or an app has as many tunnels as it may have."""

    description = "too many tunnels are open; close some, or try again later"

    def __init__(self) -> None:
        super().__init__(10)
