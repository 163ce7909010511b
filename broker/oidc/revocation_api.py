"""Revocation (RFC 7009): the app ends a refresh token or an access token."""

from __future__ import annotations

from aiohttp import web

from broker.apps.client_authentication import CLIENT, OAUTH_ERRORS, Client
from broker.infrastructure.api.endpoint import FORM, Endpoint
from broker.oidc.families import Families, family_of
from broker.oidc.introspection_api import TokenFields
from broker.oidc.paths import REVOCATION_PATH
from broker.oidc.refresh_tokens import RefreshTokens
from broker.tokens.errors import InvalidToken
from broker.tokens.issuer import TokenIssuer


class RevocationAPI:
    """Ends the family of a token, and nothing else."""

    def __init__(
        self, *, issuer: TokenIssuer, families: Families, refresh_tokens: RefreshTokens
    ) -> None:
        self._issuer = issuer
        self._families = families
        self._refresh_tokens = refresh_tokens

    async def revoke(self, client: Client, body: TokenFields) -> web.Response:
        """An unknown token, or another app's, has the same answer and no effect.

        Raises ClientSecretMissing.
        """
        client.require_authentication()
        family_id = self._family_of(body.token)
        if family_id is not None and await self._families.find(family_id, client.app):
            await self._families.end(family_id)
        return web.Response(headers={"Cache-Control": "no-store"})

    def _family_of(self, text: str) -> str | None:
        refresh_token = self._refresh_tokens.parse(text)
        if refresh_token is not None:
            return refresh_token.family
        try:
            return family_of(self._issuer.verify_access_token(text))
        except InvalidToken:
            return None


ENDPOINTS = [
    Endpoint(
        "POST",
        REVOCATION_PATH,
        RevocationAPI.revoke,
        role="oidc",
        auth=CLIENT,
        operation_id="revokeToken",
        summary="End the tokens of a grant (RFC 7009)",
        request=TokenFields,
        request_in=FORM,
        error_style=OAUTH_ERRORS,
    ),
]
