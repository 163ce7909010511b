"""Errors of apps."""

from __future__ import annotations

from broker.errors import BrokerError


class UnknownApp(BrokerError):
    error, status = "invalid_client", 401
    description = "no app has this id"


class InvalidAppCredentials(BrokerError):
    error, status = "invalid_client", 401
    counts_as_guess = True
    description = "want `Authorization: Basic` with the app's id and secret, or the admin token"
    auth_scheme = 'Basic realm="sessions"'


class OriginNotAllowed(BrokerError):
    error, status = "invalid_client", 401
    description = "pages of this origin may not use the app; add the origin to the app's list"


class AppAdminError(BrokerError):
    """What an operator asked for an app cannot be; nothing has changed."""


class InvalidApp(AppAdminError):
    error, status = "invalid_request", 400

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("; ".join(mistakes))


class AppNotFound(AppAdminError):
    error, status = "unknown_app", 404
    description = "no app is recorded under this id"


class AppAlreadyExists(AppAdminError):
    error, status = "app_exists", 409
    description = "an app is recorded under this id already"
