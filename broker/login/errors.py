"""Errors of logins."""

from __future__ import annotations

from broker.errors import BrokerError, InvalidRequest


class LoginError(BrokerError):
    """The login does not allow the act. The login is unchanged."""


class UnknownLogin(LoginError):
    """Unknown id or wrong secret. The answer is the same, so that guesses reveal nothing."""

    error, status = "invalid_grant", 400
    counts_as_guess = True
    description = "no login has this login_id and secret"


class UnknownReport(LoginError):
    """The login is unknown, was not confirmed, or was confirmed by another person."""

    error, status = "invalid_grant", 400
    counts_as_guess = True
    description = "this person has confirmed no login with this login_id"


class AlreadyRedeemed(LoginError):
    error, status = "invalid_grant", 400
    description = "the token of this login has been delivered; begin a new login"


class LoginCancelled(LoginError):
    error, status = "invalid_grant", 400
    description = "the browser cancelled this login"


class NotConfirmed(LoginError):
    error, status = "authorization_pending", 400
    description = "the phone has not confirmed yet"


class PolledTooFast(LoginError):
    error, status = "slow_down", 400
    description = "polled faster than the interval; wait 5 seconds longer between polls"


class LoginDenied(LoginError):
    error, status = "access_denied", 403
    description = "the login was denied on the phone"


class LoginRefused(LoginError):
    error, status = "access_denied", 403
    description = "the policy of the site refuses this login"


class WrongMatch(LoginError):
    error, status = "access_denied", 403
    description = "this is not the number that the browser shows; the login has ended"


class MatchRequired(InvalidRequest):
    description = "match: send the number that the person chose; the browser shows it"


class PhoneTooOld(InvalidRequest):
    description = 'update the app: this login needs a match, and `can` does not contain "match"'


class NetworkNotAllowed(BrokerError):
    error, status = "access_denied", 403
    description = "this app does not allow logins from this network"


class WrongPhone(LoginError):
    error, status = "access_denied", 403
    description = "another phone scanned this code; only that phone can confirm or deny"


class LoginExpired(LoginError):
    error, status = "expired_token", 400
    description = "the code has expired; get a new one"


class UnknownScene(LoginError):
    error, status = "unknown_scene", 404
    counts_as_guess = True
    description = "no active login for this code"


class AlreadyScanned(LoginError):
    error, status = "already_scanned", 409
    description = "another phone has scanned this code"


class NotAllowed(LoginError):
    error, status = "invalid_state", 409
    description = "the state of the login does not allow this"


class LoginNotOpen(BrokerError):
    """For operators; clients get UnknownLogin."""

    error, status = "not_found", 404
    description = "no open login has this id: it has ended, or never existed"
