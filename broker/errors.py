"""Everything that can go wrong, one class per cause.

`BrokerError`s are answered to whoever asked; the wire word (`error`) and the HTTP
status stand on the class: the core raises a cause, the edge reads word and
status from it and decides nothing.  `StartError`s keep a command from starting.

    BrokerError
    ├── InvalidRequest             invalid_request
    │   ├── NothingSigned
    │   └── Undecipherable
    ├── UnsupportedGrant           unsupported_grant_type (RFC 6749, token endpoint only)
    ├── UnknownApp                 invalid_client
    ├── WrongAdminToken            invalid_client
    ├── WrongAppSecret             invalid_client
    ├── ForeignOrigin              invalid_client
    ├── InvalidSession             invalid_session
    ├── PersonBlocked              access_denied
    ├── NoPicture                  invalid_request
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
    │   ├── NotAllowed             invalid_state
    │   └── UnregisteredUser       unregistered_user
    ├── RateLimited                rate_limited
    │   ├── TooManyPackets
    │   └── PersonTooOften
    ├── UserBlocked                access_denied
    ├── UnknownInvitation          invalid_grant      none such, used by another, or run out
    ├── AppError                   (administration)
    │   ├── AppWrong               invalid_request
    │   ├── NoSuchApp              unknown_app
    │   └── AppExists              app_exists
    ├── UserError                  (administration)
    │   ├── UserWrong              invalid_request
    │   ├── NoSuchUser             unknown_user
    │   ├── UserExists             user_exists
    │   ├── NoSuchIdentity         unknown_identity
    │   └── IdentityTaken          identity_taken     to a phone that registers as well
    └── Unavailable                temporarily_unavailable
        ├── ProviderFails
        ├── DirectoryFails
        ├── StateFull
        ├── PoolFull
        ├── Draining
        ├── RecordsDown
        ├── PicturesDown
        └── CannotUnseal
    StartError
    ├── SettingsWrong
    ├── KeyFileUnusable
    ├── RecordsUnusable
    ├── PortTaken
    └── WorkersFailed
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class BrokerError(Exception):
    """A failure with a word for machines (`error`) and a sentence for people.

    `details` are further fields of the answer, such as `register_url`.
    `retry_after` is in seconds; None where trying again later is no cure.
    `scheme` is how one authenticates where a 401 says to (RFC 9110, `WWW-Authenticate`).
    """

    error: ClassVar[str]
    status: ClassVar[int]
    sentence: ClassVar[str]
    scheme: ClassVar[str] = "Bearer"
    retry_after: int | None = None

    def __init__(self, sentence: str | None = None, /, **details: str | int) -> None:
        super().__init__(sentence or self.sentence)
        self.details: Mapping[str, str | int] = details

    def body(self) -> dict[str, str | int]:
        """The failure as it stands in HTTP bodies and Socket.IO acks alike."""
        body: dict[str, str | int] = {"error": self.error, "error_description": str(self)}
        if self.retry_after is not None:
            body["retry_after"] = self.retry_after
        return {**body, **self.details}


class InvalidRequest(BrokerError):
    error, status = "invalid_request", 400
    sentence = "the request is malformed"


class NothingSigned(InvalidRequest):
    sentence = "the app's provider neither signs nor encrypts, or gave this session no key for it"


class Undecipherable(InvalidRequest):
    """One answer for every cause, so that nobody is told how near a guess came."""

    sentence = "the data does not open with this session's key; log in again, and fetch it anew"


class UnsupportedGrant(BrokerError):
    error, status = "unsupported_grant_type", 400
    sentence = "the only grant_type here is urn:ietf:params:oauth:grant-type:device_code"


class UnknownApp(BrokerError):
    error, status = "invalid_client", 401
    sentence = "no app has this id"


class WrongAdminToken(BrokerError):
    error, status = "invalid_client", 401
    sentence = "want `Authorization: Bearer <admin token>`, as SCAN_LOGIN_ADMIN_TOKEN says it"


class WrongAppSecret(BrokerError):
    error, status = "invalid_client", 401
    sentence = "want `Authorization: Basic` with the app's id and secret, or the admin token"
    scheme = 'Basic realm="sessions"'


class ForeignOrigin(BrokerError):
    error, status = "invalid_client", 401
    sentence = "pages of this origin may not use the app; add the origin to the app's list"


class InvalidSession(BrokerError):
    error, status = "invalid_session", 401
    sentence = "the phone's session is unknown, wrong or has ended; log in again"


class PersonBlocked(BrokerError):
    error, status = "access_denied", 403
    sentence = "the phone's provider does not let this person log in just now"


class NoPicture(BrokerError):
    error, status = "invalid_request", 404
    sentence = "there is no picture of a code under this path"


class LoginError(BrokerError):
    """The login does not allow it; whatever was asked for, nothing has changed."""


class UnknownLogin(LoginError):
    """No such login, or a wrong secret: one answer for both, so that guesses learn nothing."""

    error, status = "invalid_grant", 400
    sentence = "no login has this login_id and secret"


class AlreadyRedeemed(LoginError):
    error, status = "invalid_grant", 400
    sentence = "the token of this login was delivered; begin a new login"


class LoginCancelled(LoginError):
    error, status = "invalid_grant", 400
    sentence = "the browser cancelled this login"


class NotConfirmed(LoginError):
    error, status = "authorization_pending", 400
    sentence = "the phone has not confirmed yet"


class PolledTooFast(LoginError):
    error, status = "slow_down", 400
    sentence = "polled faster than the interval; wait 5 seconds longer between polls"


class LoginDenied(LoginError):
    error, status = "access_denied", 403
    sentence = "the login was denied on the phone"


class WrongPhone(LoginError):
    error, status = "access_denied", 403
    sentence = "another phone scanned this code, and only that one may confirm or deny"


class LoginExpired(LoginError):
    error, status = "expired_token", 400
    sentence = "the code has run out; get a fresh one"


class UnknownScene(LoginError):
    error, status = "unknown_scene", 404
    sentence = "no live login stands under this code"


class AlreadyScanned(LoginError):
    error, status = "already_scanned", 409
    sentence = "another phone scanned this code first"


class NotAllowed(LoginError):
    error, status = "invalid_state", 409
    sentence = "the login's present state does not allow this"


class UnregisteredUser(LoginError):
    """The directory does not know the person; the login stays scanned, to be confirmed later."""

    error, status = "unregistered_user", 403
    sentence = "nobody is registered here under this identity; register, then confirm again"


class UserBlocked(BrokerError):
    """The directory knows the person and lets them in no more; a login that they confirm ends."""

    error, status = "access_denied", 403
    sentence = "this person may not log in here; whoever runs the site can say why"


class UnknownInvitation(BrokerError):
    """Unknown, used by another, or run out: one answer, so that guesses learn nothing."""

    error, status = "invalid_grant", 400
    sentence = "no invitation like this is good any more; ask for another"


class RateLimited(BrokerError):
    error, status = "rate_limited", 429
    sentence = "too many requests; try again later"

    def __init__(self, retry_after: int) -> None:
        super().__init__()
        self.retry_after = retry_after


class TooManyPackets(RateLimited):
    """A Socket.IO client sends too many packets, or its address has too many polling sessions."""

    sentence = "too many Socket.IO packets or sessions; try again later"

    def __init__(self) -> None:
        super().__init__(60)


class PersonTooOften(RateLimited):
    sentence = "this person logs in too often for the phone's provider; wait a little"


class Unavailable(BrokerError):
    """Something that is needed does not do it.  passes: whether it may do so by itself yet."""

    error, status = "temporarily_unavailable", 503
    sentence = "the broker cannot do this just now; try again"
    retry_after = 2
    passes: bool = True


class ProviderFails(Unavailable):
    """The provider does not do what it is for; `reason` is the operator's, and nobody's answer."""

    sentence = "the phone's provider does not answer as it should; try again"

    def __init__(self, reason: str, retry_after: int, *, passes: bool = True) -> None:
        super().__init__()
        self.reason = reason
        self.retry_after = retry_after
        self.passes = passes


class DirectoryFails(Unavailable):
    """The site's webhook does not say who somebody is.  reason: why, for the operator alone."""

    sentence = "the site does not say just now who this is; try again"

    def __init__(self, reason: str, retry_after: int) -> None:
        super().__init__()
        self.reason = reason
        self.retry_after = retry_after


class StateFull(Unavailable):
    sentence = "too many logins are under way; try again"


class PoolFull(Unavailable):
    sentence = "the state has no room for more codes"


class Draining(Unavailable):
    sentence = "this instance is draining and begins nothing more; ask again, and another answers"


class RecordsDown(Unavailable):
    """The database cannot be reached, or does not do it.  reason: why, for the operator alone."""

    sentence = "the records cannot be reached just now; try again"

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason


class PicturesDown(Unavailable):
    """The store of pictures does not do it.  reason: why, for the operator alone."""

    sentence = "the pictures of codes cannot be reached just now; try again"

    def __init__(self, reason: str, *, passes: bool) -> None:
        super().__init__()
        self.reason = reason
        self.passes = passes


class CannotUnseal(Unavailable):
    """An app's secret is sealed under a key that is not known here, or was tampered with."""


class AppError(BrokerError):
    """What an operator asked for an app cannot be; nothing has changed."""


class AppWrong(AppError):
    error, status = "invalid_request", 400

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("; ".join(mistakes))


class NoSuchApp(AppError):
    error, status = "unknown_app", 404
    sentence = "no app is recorded under this id"


class AppExists(AppError):
    error, status = "app_exists", 409
    sentence = "an app is recorded under this id already"


class UserError(BrokerError):
    """What an operator asked for a user cannot be; nothing has changed."""


class UserWrong(UserError):
    error, status = "invalid_request", 400

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("; ".join(mistakes))


class NoSuchUser(UserError):
    error, status = "unknown_user", 404
    sentence = "no user is recorded under this id"


class UserExists(UserError):
    error, status = "user_exists", 409
    sentence = "a user is recorded under this id already"


class NoSuchIdentity(UserError):
    error, status = "unknown_identity", 404
    sentence = "the user has no such identity"


class IdentityTaken(UserError):
    error, status = "identity_taken", 409
    sentence = "this person is another user here already"


class StartError(Exception):
    """The command cannot go on; the message says why and what to do."""


class SettingsWrong(StartError):
    """One line for each mistake."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))


class KeyFileUnusable(StartError):
    """The key file cannot be read, written or understood."""


class RecordsUnusable(StartError):
    """The database cannot be reached at the start, or is of another version than this program."""


class PortTaken(StartError):
    """The port cannot be listened on."""


class WorkersFailed(StartError):
    """Not all workers started, or not all of them ended."""
