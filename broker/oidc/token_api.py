"""The token endpoint (RFC 6749, section 3.2). It selects the grant by `grant_type`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NotRequired, cast

from aiohttp import web

from broker.apps.client_authentication import CLIENT, OAUTH_ERRORS, Client
from broker.errors import InvalidRequest, RateLimited
from broker.identity.errors import UserBlocked
from broker.infrastructure.api.cors import preflight_response
from broker.infrastructure.api.endpoint import FORM, Endpoint
from broker.infrastructure.api.mounted import TokenGrant
from broker.infrastructure.api.rate_limit import RateLimiter
from broker.infrastructure.api.schema import RequestFields
from broker.login.errors import (
    AlreadyRedeemed,
    LoginCancelled,
    LoginDenied,
    LoginExpired,
    NotConfirmed,
    PolledTooFast,
    UnknownLogin,
)
from broker.oidc.errors import InvalidGrant, InvalidScope, UnsupportedGrantType
from broker.oidc.paths import TOKEN_PATH
from broker.oidc.tokens import TokenSetResponse


class TokenRequest(RequestFields):
    """The fields of all grants; each grant checks its own."""

    grant_type: str
    client_id: NotRequired[str]
    client_secret: NotRequired[str]
    code: NotRequired[str]
    redirect_uri: NotRequired[str]
    code_verifier: NotRequired[str]
    refresh_token: NotRequired[str]
    scope: NotRequired[str]
    device_code: NotRequired[str]


class TokenAPI:
    """Exchanges grants for tokens.

    A failed grant of a client without a secret is a failed attempt of its address.
    """

    def __init__(self, *, grants: Iterable[TokenGrant], failures: RateLimiter) -> None:
        self._grants = {grant.grant_type: grant for grant in grants}
        self._failures = failures

    async def token(self, client: Client, body: Mapping[str, object]) -> TokenSetResponse:
        grant_type = body.get("grant_type")
        if grant_type is None:
            raise InvalidRequest("grant_type: Field required")
        grant = self._grants.get(str(grant_type))
        if grant is None:
            raise UnsupportedGrantType(f"grant_type must be {' or '.join(self._grants)}")
        if client.has_secret:
            return await self._exchange(grant, client, body)
        with self._failures.counting_failures(client.caller.ip):
            return await self._exchange(grant, client, body)

    async def preflight(self, http: web.Request, *, any: str) -> web.Response:
        return preflight_response("GET, POST" if any == "userinfo" else "POST")

    async def _exchange(
        self, grant: TokenGrant, client: Client, body: Mapping[str, object]
    ) -> TokenSetResponse:
        return cast(TokenSetResponse, await grant.exchange(client, body))


ENDPOINTS = [
    Endpoint(
        "POST",
        TOKEN_PATH,
        TokenAPI.token,
        role="oauth",
        other_roles=("oidc",),
        auth=CLIENT,
        operation_id="requestToken",
        summary="Exchange a grant for tokens, or get the progress of a login (RFC 6749, RFC 8628)",
        request=TokenRequest,
        request_in=FORM,
        response=TokenSetResponse,
        errors=(
            UnsupportedGrantType,
            InvalidGrant,
            InvalidScope,
            UserBlocked,
            UnknownLogin,
            AlreadyRedeemed,
            LoginCancelled,
            NotConfirmed,
            PolledTooFast,
            LoginDenied,
            LoginExpired,
            RateLimited,
        ),
        error_style=OAUTH_ERRORS,
    ),
    Endpoint(
        "OPTIONS",
        "/oauth/{any}",
        TokenAPI.preflight,
        role="oauth",
        other_roles=("oidc",),
        operation_id="allowCrossOrigin",
        summary="Allow pages of other origins (CORS)",
    ),
]
