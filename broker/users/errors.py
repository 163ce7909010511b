"""Errors of registered users."""

from __future__ import annotations

from broker.errors import BrokerError


class InvalidInvitation(BrokerError):
    """Unknown, used by another, or run out: one answer, so that guesses learn nothing."""

    error, status = "invalid_grant", 400
    counts_as_guess = True
    description = "no invitation like this is good any more; ask for another"


class UserAdminError(BrokerError):
    """What an operator asked for a user cannot be; nothing has changed."""


class InvalidUser(UserAdminError):
    error, status = "invalid_request", 400

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("; ".join(mistakes))


class UserNotFound(UserAdminError):
    error, status = "unknown_user", 404
    description = "no user is recorded under this id"


class UserAlreadyExists(UserAdminError):
    error, status = "user_exists", 409
    description = "a user is recorded under this id already"


class IdentityNotFound(UserAdminError):
    error, status = "unknown_identity", 404
    description = "the user has no such identity"


class IdentityAlreadyLinked(UserAdminError):
    error, status = "identity_taken", 409
    description = "this person is another user here already"
