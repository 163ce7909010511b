"""Errors of the OpenID Connect provider."""

from __future__ import annotations

from broker.errors import BrokerError


class UnsupportedGrantType(BrokerError):
    error, status = "unsupported_grant_type", 400
    description = "grant_type is unknown; the metadata lists the supported ones"


class InvalidGrant(BrokerError):
    """A code or a refresh token does not work. Nothing is issued."""

    error, status = "invalid_grant", 400
    description = "the grant is unknown, used, expired or revoked, or of another app"


class UnknownGrant(InvalidGrant):
    """A guess may have led to it."""

    counts_as_guess = True


class InvalidScope(BrokerError):
    error, status = "invalid_scope", 400
    description = "scope asks for more than was granted"


class InsufficientScope(BrokerError):
    error, status = "insufficient_scope", 403
    auth_scheme = 'Bearer error="insufficient_scope", scope="openid"'
    description = "the access token was issued without the scope openid"


class SignInNotFound(BrokerError):
    """For operators."""

    error, status = "not_found", 404
    description = "the subject has no sign-in with this sid: it has ended, or never existed"
