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


class SessionNotFound(BrokerError):
    """For operators; clients get InvalidSession."""

    error, status = "not_found", 404
    description = "no active session has this id: it has ended, or never existed"
