"""The errors of this package."""

from __future__ import annotations


class ScanLoginError(Exception):
    """Any error of this package. Its text names the problem, and contains no secret.

    status: of the HTTP response to send.
    """

    status = 500


class InvalidToken(ScanLoginError):
    """The token is malformed, forged, expired, or for another audience."""

    status = 401


class UnknownKey(InvalidToken):
    """The broker has not published the key that the token names."""


class SpentToken(InvalidToken):
    """The token has been used before."""


class InvalidWebhook(ScanLoginError):
    """The request is not from the broker, too old, or malformed."""

    status = 401


class BrokerUnavailable(ScanLoginError):
    """The broker gives no usable answer now; a later attempt can succeed.

    retry_after: seconds that the broker asks to wait; None if it has named none.
    """

    status = 503

    def __init__(self, problem: str, *, retry_after: int | None = None) -> None:
        super().__init__(problem)
        self.retry_after = retry_after


class BrokerRefused(ScanLoginError):
    """The broker has refused a call.

    error: the word of the protocol, such as `invalid_session`.
    description: the reason, for developers.
    broker_status: of the HTTP response of the broker.
    retry_after: see `BrokerUnavailable`.
    """

    def __init__(
        self, error: str, description: str, *, broker_status: int, retry_after: int | None = None
    ) -> None:
        super().__init__(f"{error}: {description}")
        self.error = error
        self.description = description
        self.broker_status = broker_status
        self.retry_after = retry_after
