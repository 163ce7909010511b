"""Errors of a login."""

from __future__ import annotations

from broker.errors import BrokerError


class UnsupportedGrantType(BrokerError):
    error, status = "unsupported_grant_type", 400
    description = "the only grant_type here is urn:ietf:params:oauth:grant-type:device_code"


class LoginError(BrokerError):
    """The login does not allow it; whatever was asked for, nothing has changed."""


class UnknownLogin(LoginError):
    """No such login, or a wrong secret: one answer for both, so that guesses learn nothing."""

    error, status = "invalid_grant", 400
    counts_as_guess = True
    description = "no login has this login_id and secret"


class AlreadyRedeemed(LoginError):
    error, status = "invalid_grant", 400
    description = "the token of this login was delivered; begin a new login"


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


class WrongPhone(LoginError):
    error, status = "access_denied", 403
    description = "another phone scanned this code, and only that one may confirm or deny"


class LoginExpired(LoginError):
    error, status = "expired_token", 400
    description = "the code has run out; get a fresh one"


class UnknownScene(LoginError):
    error, status = "unknown_scene", 404
    counts_as_guess = True
    description = "no live login stands under this code"


class AlreadyScanned(LoginError):
    error, status = "already_scanned", 409
    description = "another phone scanned this code first"


class NotAllowed(LoginError):
    error, status = "invalid_state", 409
    description = "the login's present state does not allow this"
