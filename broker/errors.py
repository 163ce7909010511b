"""Base classes of errors.  Each feature defines its own classes in its `errors.py`.

    BrokerError                    sent to the client
    ├── InvalidRequest             invalid_request
    ├── RateLimited                rate_limited
    └── Unavailable                temporarily_unavailable
    StartupError                   ends a command
    └── InvalidSettings

`docs/protocol.md` lists the wire words of all classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class BrokerError(Exception):
    """An error that is sent to the client.  A subclass defines the wire word and the HTTP status.

    error: the wire word.
    description: the default `error_description`.
    details: further fields of the response, such as `register_url`.
    retry_after: seconds; None if a retry does not help.
    auth_scheme: the `WWW-Authenticate` of a 401 (RFC 9110).
    counts_as_guess: whether rate limiters count it as a failed attempt to guess a secret.
    """

    error: ClassVar[str]
    status: ClassVar[int]
    description: ClassVar[str]
    auth_scheme: ClassVar[str] = "Bearer"
    counts_as_guess: ClassVar[bool] = False
    retry_after: int | None = None

    def __init__(self, description: str | None = None, /, **details: object) -> None:
        super().__init__(description or self.description)
        self.details: Mapping[str, object] = details

    def body(self) -> dict[str, object]:
        """Return the body of an HTTP response or of a Socket.IO acknowledgement."""
        body: dict[str, object] = {"error": self.error, "error_description": str(self)}
        if self.retry_after is not None:
            body["retry_after"] = self.retry_after
        return {**body, **self.details}


class InvalidRequest(BrokerError):
    error, status = "invalid_request", 400
    description = "malformed request"


class RateLimited(BrokerError):
    error, status = "rate_limited", 429
    description = "too many requests; try again later"

    def __init__(self, retry_after: int) -> None:
        super().__init__()
        self.retry_after = retry_after


class Unavailable(BrokerError):
    """A dependency is unavailable.

    retryable: whether the dependency may recover without a change by an operator.
    """

    error, status = "temporarily_unavailable", 503
    description = "the broker is temporarily unavailable; try again"
    retry_after = 2
    retryable: bool = True


def failure_reason(error: Unavailable) -> str:
    """Return the reason for operators, or the public description if there is none."""
    return str(getattr(error, "reason", error))


class StartupError(Exception):
    """Ends a command.  The message states the reason and what to do.

    remedy: what to do, as the end of the message; empty if the reason contains it.
    """

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(f"{reason}; {remedy}" if remedy else reason)
        self.reason = reason
        self.remedy = remedy


class InvalidSettings(StartupError):
    """mistakes: one line each."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
