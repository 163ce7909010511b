"""Errors of sessions."""

from __future__ import annotations

from broker.errors import BrokerError, InvalidRequest


class SigningUnsupported(InvalidRequest):
    description = (
        "the app's provider neither signs nor encrypts, or gave this session no key for it"
    )


class InvalidSession(BrokerError):
    error, status = "invalid_session", 401
    counts_as_guess = True
    description = "the phone's session is unknown, wrong or has ended; log in again"
