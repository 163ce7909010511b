"""Errors of providers and directories."""

from __future__ import annotations

from broker.errors import BrokerError, InvalidRequest, RateLimited, Unavailable

MISCONFIGURED_RETRY_AFTER = 60
"""Seconds that whoever asked is told to wait until an operator has mended an app."""


class UserDataDecryptionFailed(InvalidRequest):
    """One answer for every cause, so that nobody is told how near a guess came."""

    description = "the data does not open with this session's key; log in again, and fetch it anew"


class ProviderBlockedUser(BrokerError):
    error, status = "access_denied", 403
    description = "the phone's provider does not let this person log in just now"


class UnregisteredUser(BrokerError):
    """The directory does not know the person; the login stays scanned, to be confirmed later."""

    error, status = "unregistered_user", 403
    description = "nobody is registered here under this identity; register, then confirm again"


class UserBlocked(BrokerError):
    """The directory knows the person and lets them in no more; a login that they confirm ends."""

    error, status = "access_denied", 403
    description = "this person may not log in here; whoever runs the site can say why"


class ProviderRateLimited(RateLimited):
    description = "this person logs in too often for the phone's provider; wait a little"


class ProviderUnavailable(Unavailable):
    """The provider does not do what it is for; `reason` is the operator's, and nobody's answer."""

    description = "the phone's provider does not answer as it should; try again"

    def __init__(self, reason: str, retry_after: int, *, retryable: bool = True) -> None:
        super().__init__()
        self.reason = reason
        self.retry_after = retry_after
        self.retryable = retryable


class DirectoryUnavailable(Unavailable):
    """The site's webhook does not say who somebody is.  reason: why, for the operator alone."""

    description = "the site does not say just now who this is; try again"

    def __init__(self, reason: str, retry_after: int) -> None:
        super().__init__()
        self.reason = reason
        self.retry_after = retry_after
