"""Authorization by the admin token."""

from __future__ import annotations

import hmac
from collections.abc import Callable

from aiohttp import web

from broker.errors import BrokerError
from broker.infrastructure.api.endpoint import Auth, Authenticator, Operation
from broker.infrastructure.api.responses import Handler


class InvalidAdminToken(BrokerError):
    error, status = "invalid_client", 401
    description = "send `Authorization: Bearer` with the value of SCAN_LOGIN_ADMIN_TOKEN"


OPERATOR = Auth(
    {"adminToken": {"type": "http", "scheme": "bearer", "description": "SCAN_LOGIN_ADMIN_TOKEN"}},
    alternatives=(("adminToken",),),
    errors=(InvalidAdminToken,),
)
"""The admin token, at the admin port."""

Authorization = Callable[[Handler], Handler]


def require_admin_token(token: str) -> Authorization:
    """Wrap handlers so that a request without the token raises InvalidAdminToken."""

    def authorize(handler: Handler) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            check_admin_token(request, token)
            return await handler(request)

        return guarded

    return authorize


def admin_token_authenticator(token: str) -> Authenticator:
    """Return the authenticator of `OPERATOR`."""

    async def authenticate(http: web.Request, operation: Operation) -> object:
        check_admin_token(http, token)
        return await operation.call(payload=await operation.read(http), path=http.match_info)

    return authenticate


def check_admin_token(request: web.Request, token: str) -> None:
    """Raise InvalidAdminToken if the request does not have the token."""
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    is_valid = is_secret(bearer.strip(), token)
    if scheme.lower() != "bearer" or not is_valid:
        raise InvalidAdminToken


def is_secret(value: str, secret: str) -> bool:
    """Compare a header's value with the secret.  aiohttp escapes bytes that are not UTF-8."""
    return hmac.compare_digest(value.encode(errors="surrogateescape"), secret.encode())
