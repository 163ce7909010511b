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
    """Refuse requests without the admin token."""

    def authorize(handler: Handler) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
            right = is_secret(shown.strip(), token)
            if scheme.lower() != "bearer" or not right:
                raise InvalidAdminToken
            return await handler(request)

        return guarded

    return authorize


def admin_token_authenticator(token: str) -> Authenticator:
    """Return the authenticator for `OPERATOR`: the request has the admin token, or is refused."""

    async def authenticate(http: web.Request, operation: Operation) -> object:
        scheme, _, sent = http.headers.get("Authorization", "").partition(" ")
        is_right = is_secret(sent.strip(), token)
        if scheme.lower() != "bearer" or not is_right:
            raise InvalidAdminToken
        return await operation.call(payload=await operation.read(http), path=http.match_info)

    return authenticate


def is_secret(sent: str, secret: str) -> bool:
    """Compare a header's value with the secret.  aiohttp escapes bytes that are not UTF-8."""
    return hmac.compare_digest(sent.encode(errors="surrogateescape"), secret.encode())
