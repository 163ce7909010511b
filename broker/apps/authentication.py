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
    """app: None for whoever shows the admin token, and may speak for all of them."""

    app: str | None
    secret: str


def read_app_credentials(request: web.Request) -> AppCredentials:
    """Raises InvalidAppCredentials where there are none that can be read."""
    scheme, _, shown = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    if scheme.lower() == "bearer":
        return AppCredentials(None, shown.strip())
    try:
        text = base64.b64decode(shown.strip(), validate=True).decode()
    except ValueError:
        raise InvalidAppCredentials from None
    app, colon, secret = text.partition(":")
    if scheme.lower() != "basic" or not (app and colon):
        raise InvalidAppCredentials
    return AppCredentials(app, secret)
