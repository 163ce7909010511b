"""Authorization by the admin token."""

from __future__ import annotations

import hmac
from collections.abc import Callable

from aiohttp import web

from broker.errors import BrokerError
from broker.infrastructure.api.responses import Handler

Authorization = Callable[[Handler], Handler]


def require_admin_token(token: str) -> Authorization:
    """Lets nobody pass who does not show the token."""

    def authorize(handler: Handler) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
            right = is_secret(shown.strip(), token)
            if scheme.lower() != "bearer" or not right:
                raise InvalidAdminToken
            return await handler(request)

        return guarded

    return authorize


def is_secret(shown: str, secret: str) -> bool:
    """Whether a header has the secret.  aiohttp escapes bytes that are not UTF-8."""
    return hmac.compare_digest(shown.encode(errors="surrogateescape"), secret.encode())


class InvalidAdminToken(BrokerError):
    error, status = "invalid_client", 401
    description = "want `Authorization: Bearer <admin token>`, as SCAN_LOGIN_ADMIN_TOKEN says it"
