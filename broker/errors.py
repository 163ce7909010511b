"""Everything that can go wrong, one class per cause.

`BrokerError`s are answered to whoever asked; the wire word (`error`) and the HTTP
status stand on the class: the core raises a cause, the edge reads word and
status from it and decides nothing.  `StartupError`s keep a command from starting.

    BrokerError
    ├── InvalidRequest             invalid_request
    │   ├── SigningUnsupported
    │   └── Undecipherable
    ├── UnsupportedGrantType           unsupported_grant_type (RFC 6749, token endpoint only)
    ├── UnknownApp                 invalid_client
    ├── InvalidAdminToken            invalid_client
    ├── InvalidAppCredentials             invalid_client
    ├── OriginNotAllowed              invalid_client
    ├── InvalidSession             invalid_session
    ├── ProviderBlockedUser              access_denied
    ├── PictureNotFound                  invalid_request
    ├── LoginError
    │   ├── UnknownLogin           invalid_grant      no such login, or a wrong secret
    │   ├── AlreadyRedeemed        invalid_grant
    │   ├── LoginCancelled         invalid_grant
    │   ├── NotConfirmed           authorization_pending
    │   ├── PolledTooFast          slow_down
    │   ├── LoginDenied            access_denied
    │   ├── WrongPhone             access_denied
    │   ├── LoginExpired           expired_token
    │   ├── UnknownScene           unknown_scene
    │   ├── AlreadyScanned         already_scanned
    │   └── NotAllowed             invalid_state
    ├── UnregisteredUser           unregistered_user
    ├── RateLimited                rate_limited
    │   ├── TooManyPackets
    │   └── ProviderRateLimited
    ├── UserBlocked                access_denied
    ├── InvalidInvitation          invalid_grant      none such, used by another, or run out
    ├── AppAdminError                   (administration)
    │   ├── InvalidApp               invalid_request
    │   ├── AppNotFound              unknown_app
    │   └── AppAlreadyExists              app_exists
    ├── UserAdminError                  (administration)
    │   ├── InvalidUser              invalid_request
    │   ├── UserNotFound             unknown_user
    │   ├── UserAlreadyExists             user_exists
    │   ├── IdentityNotFound         unknown_identity
    │   └── IdentityAlreadyLinked          identity_taken     to a phone that registers as well
    └── Unavailable                temporarily_unavailable
        ├── ProviderUnavailable
        ├── DirectoryUnavailable
        ├── StateCapacityExceeded
        ├── PoolCapacityExceeded
        ├── Draining
        ├── RecordsUnavailable
        ├── PicturesUnavailable
        └── SecretDecryptionFailed
    StartupError
    ├── InvalidSettings
    ├── KeyFileError
    ├── RecordsStartupError
    ├── PortInUse
    └── WorkerFailure
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class BrokerError(Exception):
    """A failure with a word for machines (`error`) and a sentence for people.

    `details` are further fields of the answer, such as `register_url`.
    `retry_after` is in seconds; None where trying again later is no cure.
    `auth_scheme` is how one authenticates where a 401 says to (RFC 9110, `WWW-Authenticate`).
    `counts_as_guess` marks a failed attempt to guess a secret, which rate limiters count.
    """

    error: ClassVar[str]
    status: ClassVar[int]
    description: ClassVar[str]
    auth_scheme: ClassVar[str] = "Bearer"
    counts_as_guess: ClassVar[bool] = False
    retry_after: int | None = None

    def __init__(self, description: str | None = None, /, **details: str | int) -> None:
        super().__init__(description or self.description)
        self.details: Mapping[str, str | int] = details

    def body(self) -> dict[str, str | int]:
        """The failure as it stands in HTTP bodies and Socket.IO acks alike."""
        body: dict[str, str | int] = {"error": self.error, "error_description": str(self)}
        if self.retry_after is not None:
            body["retry_after"] = self.retry_after
        return {**body, **self.details}


class InvalidRequest(BrokerError):
    error, status = "invalid_request", 400
    description = "the request is malformed"


class RateLimited(BrokerError):
    error, status = "rate_limited", 429
    description = "too many requests; try again later"

    def __init__(self, retry_after: int) -> None:
        super().__init__()
        self.retry_after = retry_after


class Unavailable(BrokerError):
    """Something that is needed does not do it.  passes: whether it may do so by itself yet."""

    error, status = "temporarily_unavailable", 503
    description = "the broker cannot do this just now; try again"
    retry_after = 2
    retryable: bool = True


class StartupError(Exception):
    """The command cannot go on; the message says why and what to do."""


class InvalidSettings(StartupError):
    """One line for each mistake."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
