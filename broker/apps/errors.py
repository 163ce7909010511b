"""Errors of apps."""

from __future__ import annotations

from broker.errors import BrokerError

APP_ID_MAX = 64
"""Characters of an id in an error: as many as an app id may have."""


class UnknownApp(BrokerError):
    error, status = "invalid_client", 401

    def __init__(self, app_id: str) -> None:
        super().__init__(f"no app has the id {app_id[:APP_ID_MAX]!r}")


class InvalidAppCredentials(BrokerError):
    error, status = "invalid_client", 401
    counts_as_guess = True
    description = "send `Authorization: Basic` with the app's id and secret, or the admin token"
    auth_scheme = 'Basic realm="sessions"'


class InvalidClientSecret(BrokerError):
    error, status = "invalid_client", 401
    counts_as_guess = True
    description = "the app's secret is wrong, or the app is public and has none"


class ClientSecretMissing(BrokerError):
    error, status = "invalid_client", 401
    description = (
        "the app must authenticate: send its id and secret with `Authorization: Basic` or in the "
        "form, as client_id and client_secret"
    )


class OriginNotAllowed(BrokerError):
    error, status = "invalid_client", 401
    description = "the app does not allow this Origin; add it to the app's origins"


class AppAdminError(BrokerError):
    """An administration request for an app was refused; nothing has changed."""


class InvalidApp(AppAdminError):
    error, status = "invalid_request", 400

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("; ".join(mistakes))
        self.mistakes = mistakes


class AppNotFound(AppAdminError):
    error, status = "unknown_app", 404
    description = "the records have no app with this id"


class AppAlreadyExists(AppAdminError):
    error, status = "app_exists", 409
    description = "an app with this id already exists"
