"""Authentication of an app's own servers by HTTP Basic."""

from __future__ import annotations

import base64
from typing import NamedTuple

from aiohttp import hdrs, web

from broker.apps.errors import InvalidAppCredentials
from broker.errors import RateLimited
from broker.infrastructure.api.authorization import OPERATOR
from broker.infrastructure.api.endpoint import Auth

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
    errors=(InvalidAppCredentials, RateLimited),
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
