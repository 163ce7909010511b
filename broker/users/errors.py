"""Errors of registered users."""

from __future__ import annotations

from broker.errors import BrokerError


class InvalidInvitation(BrokerError):
    """Unknown, used by another user, or expired: one error, so that a guess reveals nothing."""

    error, status = "invalid_grant", 400
    counts_as_guess = True
    description = "the invitation is invalid or has expired; ask for a new one"


class UserAdminError(BrokerError):
    """An administration request for a user was refused; nothing has changed."""


class InvalidUser(UserAdminError):
    error, status = "invalid_request", 400

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("; ".join(mistakes))
        self.mistakes = mistakes


class UserNotFound(UserAdminError):
    error, status = "unknown_user", 404
    description = "no user has this id"


class UserAlreadyExists(UserAdminError):
    error, status = "user_exists", 409
    description = "a user with this id already exists"


class IdentityNotFound(UserAdminError):
    error, status = "unknown_identity", 404
    description = "the user does not have this identity"


class IdentityAlreadyLinked(UserAdminError):
    error, status = "identity_taken", 409
    description = "this identity is already linked to another user"
