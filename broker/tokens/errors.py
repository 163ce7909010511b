"""Errors of tokens."""

from __future__ import annotations

from broker.errors import BrokerError


class InvalidToken(BrokerError):
    """One answer for every cause, so that it does not help an attacker (RFC 6750)."""

    error, status = "invalid_token", 401
    auth_scheme = 'Bearer error="invalid_token"'
    description = "the access token is malformed, expired or revoked, or of another issuer"


class KeysNotRotated(BrokerError):
    """The keys are unchanged."""

    error, status = "conflict", 409
    description = "the keys cannot be rotated now"
