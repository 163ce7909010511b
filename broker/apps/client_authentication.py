"""Client authentication at the OAuth endpoints (RFC 6749, section 2.3).

An app sends its id and secret with `Authorization: Basic` or in the form. A public app, and a
request that needs no secret, sends only `client_id` in the form.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote_plus

from aiohttp import hdrs, web

from broker.apps.errors import (
    ClientSecretMissing,
    InvalidClientSecret,
    OriginNotAllowed,
    UnknownApp,
)
from broker.apps.model import App
from broker.apps.origins import authorize_origin
from broker.apps.ports import Apps, AppSecrets
from broker.errors import InvalidRequest, RateLimited
from broker.infrastructure.api.client_address import Caller, ClientAddresses
from broker.infrastructure.api.endpoint import Auth, ErrorStyle, Operation
from broker.infrastructure.api.rate_limit import RateLimiter
from broker.infrastructure.api.schema import AppIdField, RequestModel, parse

AUTH_METHODS = ("client_secret_basic", "client_secret_post", "none")
"""The methods, in the words of OpenID Connect Core, section 9."""

CLIENT = Auth(
    {
        "clientSecret": {
            "type": "http",
            "scheme": "basic",
            "description": "the app's id and secret, both form-encoded (RFC 6749, section 2.3.1); "
            "or `client_id` and `client_secret` in the form",
        }
    },
    alternatives=(("clientSecret",), ()),
    errors=(UnknownApp, OriginNotAllowed, InvalidClientSecret, ClientSecretMissing, RateLimited),
)
"""An app, with or without its secret. The handler gets a `Client`."""

KEPT_STATUSES = frozenset({401, 429, 503})
"""`invalid_client`, and statuses that clients treat as temporary."""


def oauth_status(status: int) -> int:
    """Return the status of an error at the OAuth endpoints: 400, with few exceptions.

    RFC 6749, section 5.2, and RFC 8628, section 3.5.
    """
    return status if status in KEPT_STATUSES else 400


OAUTH_ERRORS = ErrorStyle(oauth_status, auth_scheme='Basic realm="scan-login"')
"""RFC 6749, section 5.2; OAuth client libraries reject `Bearer` here."""


class Client(NamedTuple):
    """The app that sends a request.

    has_secret: whether the app has proved its secret.
    """

    app: App
    has_secret: bool
    caller: Caller

    def require_authentication(self) -> None:
        """Raise ClientSecretMissing for a confidential app without its secret."""
        if self.app.client_type != "public":
            self.require_secret()

    def require_secret(self) -> None:
        """Raise ClientSecretMissing without a secret; a public app has none."""
        if not self.has_secret:
            raise ClientSecretMissing


class ClientCredentials(NamedTuple):
    """secret: empty if the client sent none."""

    app: str
    secret: str


class ClientFields(RequestModel):
    """The form's fields that identify the client.  client_id: optional with Basic."""

    client_id: AppIdField | None = None
    client_secret: str | None = None


class ClientAuthenticator:
    """Authenticates apps at the OAuth endpoints, and then calls the handler with a `Client`.

    A wrong secret is a failed attempt of its address.
    """

    def __init__(
        self,
        *,
        apps: Apps,
        secrets: AppSecrets,
        failures: RateLimiter,
        addresses: ClientAddresses,
    ) -> None:
        self._apps = apps
        self._secrets = secrets
        self._failures = failures
        self._addresses = addresses

    async def authenticate(self, http: web.Request, operation: Operation) -> object:
        """Call the handler of an endpoint.  This is an `Authenticator`.

        Raises InvalidRequest, UnknownApp, OriginNotAllowed or InvalidClientSecret, and
        RateLimited for too many failed attempts.
        """
        payload = await operation.read(http)
        assert isinstance(payload, Mapping), "these endpoints take forms"
        client = self._client(http, payload)
        return await operation.call(client, payload=payload)

    def _client(self, http: web.Request, form: Mapping[str, object]) -> Client:
        caller = self._addresses.caller(http)
        with self._failures.counting_failures(caller.ip):
            credentials = read_client_credentials(http.headers.get(hdrs.AUTHORIZATION), form)
            app = authorize_origin(self._apps, credentials.app, caller.origin)
            if not credentials.secret:
                return Client(app, False, caller)
            if app.client_type == "public" or not self._secrets.is_api_secret(*credentials):
                raise InvalidClientSecret
        return Client(app, True, caller)


def read_client_credentials(header: str | None, form: Mapping[str, object]) -> ClientCredentials:
    """Return the id and secret of a request.  Raises InvalidRequest or InvalidClientSecret.

    header: the value of `Authorization`.
    """
    fields = parse(ClientFields, form)
    if header is None:
        if fields.client_id is None:
            raise InvalidRequest("client_id: Field required")
        return ClientCredentials(fields.client_id, fields.client_secret or "")
    if fields.client_secret is not None:
        raise InvalidRequest("client_secret: send it in the form or with Basic, not both")
    credentials = _decode_basic(header)
    if fields.client_id not in (None, credentials.app):
        raise InvalidRequest("client_id: the credentials are another app's")
    return credentials


def _decode_basic(header: str) -> ClientCredentials:
    scheme, _, encoded = header.partition(" ")
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode()
    except ValueError:
        raise InvalidClientSecret from None
    app, colon, secret = text.partition(":")
    if scheme.lower() != "basic" or not (app and colon):
        raise InvalidClientSecret
    return ClientCredentials(unquote_plus(app), unquote_plus(secret))
