"""Introspection (RFC 7662): whether a token works now, for the app that has it."""

from __future__ import annotations

from typing import NotRequired

from broker.apps.client_authentication import CLIENT, OAUTH_ERRORS, Client, ClientFields
from broker.apps.model import App
from broker.infrastructure.api.endpoint import FORM, Endpoint
from broker.infrastructure.api.schema import Count, ResponseModel
from broker.oidc.claims import preferred_username
from broker.oidc.families import Families, family_of
from broker.oidc.paths import INTROSPECTION_PATH
from broker.oidc.refresh_tokens import RefreshToken, RefreshTokens
from broker.tokens.errors import InvalidToken
from broker.tokens.issuer import TokenIssuer, VerifiedAccessToken


class TokenFields(ClientFields):
    """token: an access token or a refresh token."""

    token: str
    token_type_hint: str | None = None


class IntrospectionResponse(ResponseModel):
    """Only `active`, if it is false. Without `token_type`, the token is a refresh token."""

    active: bool
    iss: NotRequired[str]
    sub: NotRequired[str]
    aud: NotRequired[list[str]]
    client_id: NotRequired[str]
    scope: NotRequired[str]
    exp: NotRequired[Count]
    iat: NotRequired[Count]
    jti: NotRequired[str]
    sid: NotRequired[str]
    username: NotRequired[str]
    token_type: NotRequired[str]


INACTIVE: IntrospectionResponse = {"active": False}


class IntrospectionAPI:
    """Reads the family and the sign-in session of a token, and asks the directory."""

    def __init__(
        self, *, issuer: TokenIssuer, families: Families, refresh_tokens: RefreshTokens
    ) -> None:
        self._issuer = issuer
        self._families = families
        self._refresh_tokens = refresh_tokens

    async def introspect(self, client: Client, body: TokenFields) -> IntrospectionResponse:
        """Another app's token is not active.  Raises ClientSecretMissing."""
        client.require_secret()
        refresh_token = self._refresh_tokens.parse(body.token)
        if refresh_token is not None:
            return await self._refresh_token(client.app, refresh_token)
        try:
            token = self._issuer.verify_access_token(body.token)
        except InvalidToken:
            return INACTIVE
        if (token.client_id, token.incarnation) != (client.app.id, client.app.incarnation):
            return INACTIVE
        return await self._access_token(client.app, token)

    async def _refresh_token(self, app: App, token: RefreshToken) -> IntrospectionResponse:
        active = await self._families.with_profile(token.family, app)
        if active is None or active.family.n != token.n:
            return INACTIVE
        family, grant = active.family, active.family.grant
        return {
            "active": True,
            "iss": self._issuer.issuer,
            "sub": grant.subject,
            "client_id": app.id,
            "scope": " ".join(grant.scope),
            "exp": int(family.expires_at),
            "iat": int(family.rotated_at),
            "sid": grant.sid,
            "username": preferred_username(active.profile),
        }

    async def _access_token(self, app: App, token: VerifiedAccessToken) -> IntrospectionResponse:
        family_id = family_of(token)
        if family_id is None:
            return self._fields(token)
        active = await self._families.with_profile(family_id, app)
        if active is None:
            return INACTIVE
        return {
            **self._fields(token),
            "sid": active.family.grant.sid,
            "username": preferred_username(active.profile),
        }

    def _fields(self, token: VerifiedAccessToken) -> IntrospectionResponse:
        return {
            "active": True,
            "iss": self._issuer.issuer,
            "sub": token.subject,
            "aud": list(token.audience),
            "client_id": token.client_id,
            "scope": " ".join(token.scope),
            "exp": token.expires_at,
            "iat": token.issued_at,
            "jti": token.id,
            "token_type": "Bearer",
        }


ENDPOINTS = [
    Endpoint(
        "POST",
        INTROSPECTION_PATH,
        IntrospectionAPI.introspect,
        role="oidc",
        auth=CLIENT,
        operation_id="introspectToken",
        summary="Return whether a token works now, and its claims (RFC 7662)",
        request=TokenFields,
        request_in=FORM,
        response=IntrospectionResponse,
        error_style=OAUTH_ERRORS,
    ),
]
