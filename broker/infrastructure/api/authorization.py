"""Authorization by the admin token."""

from __future__ import annotations

import hmac

from aiohttp import web

from broker.errors import BrokerError
from broker.infrastructure.api.endpoint import Auth, Authenticator, Operation


class InvalidAdminToken(BrokerError):
    error, status = "invalid_client", 401
    description = "send `Authorization: Bearer` with the value of SCAN_LOGIN_ADMIN_TOKEN"


OPERATOR = Auth(
    {"adminToken": {"type": "http", "scheme": "bearer", "description": "SCAN_LOGIN_ADMIN_TOKEN"}},
    alternatives=(("adminToken",),),
    errors=(InvalidAdminToken,),
)
"""The admin token, at the admin port."""


def admin_token_authenticator(token: str) -> Authenticator:
    """Return the authenticator of `OPERATOR`."""

    async def authenticate(http: web.Request, operation: Operation) -> object:
        scheme, _, bearer = http.headers.get("Authorization", "").partition(" ")
        is_valid = is_secret(bearer.strip(), token)
        if scheme.lower() != "bearer" or not is_valid:
            raise InvalidAdminToken
        return await operation.call(payload=await operation.read(http), path=http.match_info)

    return authenticate


def is_secret(value: str, secret: str) -> bool:
    """Compare a header's value with the secret.  aiohttp escapes bytes that are not UTF-8."""
    return hmac.compare_digest(value.encode(errors="surrogateescape"), secret.encode())
