"""Authentication of an app's own server: HTTP Basic with the app's secret, or the admin token."""

from __future__ import annotations

import base64
from typing import NamedTuple

from aiohttp import hdrs, web

from broker.apps.errors import InvalidAppCredentials, UnknownApp
from broker.apps.model import App
from broker.apps.ports import Apps, AppSecrets
from broker.errors import InvalidRequest, RateLimited
from broker.infrastructure.api.authorization import OPERATOR, is_secret
from broker.infrastructure.api.client_address import ClientAddresses
from broker.infrastructure.api.endpoint import Auth, Operation
from broker.infrastructure.api.rate_limit import RateLimiter
from broker.infrastructure.api.schema import AppIdField, RequestModel

SERVER = Auth(
    {
        "appSecret": {
            "type": "http",
            "scheme": "basic",
            "description": "the app's id and its own secret",
        },
        **OPERATOR.schemes,
    },
    alternatives=(("appSecret",), *OPERATOR.alternatives),
    errors=(InvalidAppCredentials, UnknownApp, RateLimited),
)
"""An app's own server: the app's id and secret, or the admin token."""


class AppCredentials(NamedTuple):
    """app: None if `secret` is to be the admin token, which is valid for every app."""

    app: str | None
    secret: str


def read_app_credentials(request: web.Request) -> AppCredentials:
    """Parse the Authorization header.  Raises InvalidAppCredentials if it is malformed."""
    scheme, _, credentials = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    if scheme.lower() == "bearer":
        return AppCredentials(None, credentials.strip())
    try:
        text = base64.b64decode(credentials.strip(), validate=True).decode()
    except ValueError:
        raise InvalidAppCredentials from None
    app, colon, secret = text.partition(":")
    if scheme.lower() != "basic" or not (app and colon):
        raise InvalidAppCredentials
    return AppCredentials(app, secret)


class AppScopedRequest(RequestModel):
    """A request about one app.  app: required with the admin token, which is valid for all apps."""

    app: AppIdField | None = None


class AppAuthenticator:
    """Authenticates an app's own server, and then calls the handler with the app.

    The request model of an endpoint with `SERVER` is an `AppScopedRequest`.  A request without
    credentials is not a failed attempt: a page of another origin can send no other.

    admin_token: valid for every app; None if it is not set.
    """

    def __init__(
        self,
        *,
        apps: Apps,
        secrets: AppSecrets,
        failures: RateLimiter,
        addresses: ClientAddresses,
        admin_token: str | None,
    ) -> None:
        self._apps = apps
        self._secrets = secrets
        self._failures = failures
        self._addresses = addresses
        self._admin_token = admin_token

    async def authenticate(self, http: web.Request, operation: Operation) -> object:
        """Call the handler of an endpoint.  This is an `Authenticator`.

        Raises InvalidAppCredentials, UnknownApp or InvalidRequest, and RateLimited for too many
        failed attempts.
        """
        credentials = read_app_credentials(http)
        with self._failures.counting_failures(self._addresses.of(http)):
            self._check_secret(credentials)
        assert operation.parse is not None
        body = operation.parse(await operation.read(http))
        app = self._app_of(credentials, body)
        return await operation.handler(app, body, **http.match_info)

    def _check_secret(self, credentials: AppCredentials) -> None:
        if credentials.app is not None:
            is_right = self._secrets.is_api_secret(credentials.app, credentials.secret)
        else:
            token = self._admin_token
            is_right = token is not None and is_secret(credentials.secret, token)
        if not is_right:
            raise InvalidAppCredentials

    def _app_of(self, credentials: AppCredentials, body: AppScopedRequest) -> App:
        if credentials.app is not None and body.app not in (None, credentials.app):
            raise InvalidRequest("app: the credentials are another app's")
        name = credentials.app or body.app
        if name is None:
            raise InvalidRequest("app: required with the admin token")
        app = self._apps.get(name)
        if app is None:
            raise UnknownApp(name)
        return app
