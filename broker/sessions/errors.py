"""Errors of sessions."""

from __future__ import annotations

from broker.errors import BrokerError, InvalidRequest


class SigningUnsupported(InvalidRequest):
    description = (
        "the app's provider supports neither signatures nor encryption, "
        "or the session has no session_key"
    )


class InvalidSession(BrokerError):
    error, status = "invalid_session", 401
    counts_as_guess = True
    description = "the session is unknown, wrong or has ended; log in again"
