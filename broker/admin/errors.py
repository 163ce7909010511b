"""Errors of the administration."""

from __future__ import annotations

from broker.errors import BrokerError


class HostNotAllowed(BrokerError):
    """The name in the request is not one of the admin port: it may be that of an attacker's page
    whose name resolves to this machine (DNS rebinding)."""

    error, status = "access_denied", 403
    description = (
        "the admin port is not known by this name: open it by its address or by localhost, or set "
        "SCAN_LOGIN_ADMIN_URL"
    )


class TooManyWatchers(BrokerError):
    error, status = "rate_limited", 429
    description = "16 operators watch this instance already; close another page"
    retry_after = 10
