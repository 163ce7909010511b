"""Errors of providers and directories."""

from __future__ import annotations

from broker.errors import BrokerError, InvalidRequest, RateLimited, Unavailable

MISCONFIGURED_RETRY_AFTER = 60
"""`retry_after` in seconds if an operator must correct an app."""


class InvalidProof(BrokerError):
    error, status = "invalid_session", 401
    counts_as_guess = True
    description = "the js_code is invalid; log in again"


class InvalidPhoneNumberCode(BrokerError):
    error, status = "invalid_grant", 400
    counts_as_guess = True
    description = "the code for the phone number is invalid or used; tap the button again"


class UserDataDecryptionFailed(InvalidRequest):
    """One answer for every cause, so that it does not help an attacker to guess."""

    description = "the session's key does not decrypt the data; log in again and send new data"


class ProviderBlockedUser(BrokerError):
    error, status = "access_denied", 403
    description = "the phone's provider currently does not let this user log in"


class UnregisteredUser(BrokerError):
    """The directory does not know the user. The login stays scanned and can be confirmed later."""

    error, status = "unregistered_user", 403
    description = "no user is registered with this identity; register, then confirm again"


class UserBlocked(BrokerError):
    """The directory refuses the user. A login that the user confirms is denied."""

    error, status = "access_denied", 403
    description = "this user is blocked; contact the operator of the site"


class ProviderRateLimited(RateLimited):
    description = "too many logins of this user for the phone's provider; try again later"


class ProviderUnavailable(Unavailable):
    """The provider cannot draw or verify.

    reason: for the operator; it is not sent to clients.
    retryable: whether a retry may succeed without an operator.
    advice: what the operator can do; may be empty.
    """

    description = "the provider is unavailable; try again"

    def __init__(
        self, reason: str, retry_after: int, *, retryable: bool = True, advice: str = ""
    ) -> None:
        super().__init__()
        self.reason = reason
        self.retry_after = retry_after
        self.retryable = retryable
        self.advice = advice


class NoProviderAccount(ProviderUnavailable):
    """Neither the app nor the settings have an account at the app's provider."""


class ProviderAnswerMalformed(ProviderUnavailable):
    """The provider has sent an answer that is not in its format."""


class DirectoryUnavailable(Unavailable):
    """The site's webhook returns no valid answer.

    reason: for the operator; it is not sent to clients.
    """

    description = "the user directory is unavailable; try again"

    def __init__(self, reason: str, retry_after: int) -> None:
        super().__init__()
        self.reason = reason
        self.retry_after = retry_after
