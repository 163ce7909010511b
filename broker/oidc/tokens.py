"""Makes the tokens of a grant: the access token, the ID token and the refresh token."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import NamedTuple, NotRequired

from broker.apps.model import App
from broker.identity.model import UserProfile
from broker.infrastructure.api.schema import Count, ResponseModel
from broker.oidc.claims import Claims, ClaimSource
from broker.oidc.model import Family, Grant
from broker.oidc.refresh_tokens import RefreshToken, RefreshTokens
from broker.tokens.issuer import TokenClaims, TokenIssuer, at_hash

TOKEN_ID_BYTES = 8
"""Random part of a `jti`: 11 characters."""


class TokenSetResponse(ResponseModel):
    """The answer of the token endpoint (OpenID Connect Core, section 3.1.3.3).

    scope: missing for a login on a device without scopes.
    subject: of the device grant only.
    """

    access_token: str
    token_type: str
    expires_in: Count
    scope: NotRequired[str]
    id_token: NotRequired[str]
    refresh_token: NotRequired[str]
    subject: NotRequired[str]


class TokenIssue(NamedTuple):
    """What to issue.

    scope: of the tokens; a part of the family's scope.
    n: number of the refresh token; 0 for none.
    issued_at: Unix time in seconds.
    token_id: `jti` of the access token; None for a random one in the family.
    nonce: for the ID token.
    """

    app: App
    family: Family
    profile: UserProfile
    scope: Sequence[str]
    issued_at: int
    token_id: str | None = None
    nonce: str | None = None


class TokenSigner:
    """Signs the tokens of a family."""

    def __init__(
        self, *, issuer: TokenIssuer, claims: ClaimSource, refresh_tokens: RefreshTokens
    ) -> None:
        self._issuer = issuer
        self._claims = claims
        self._refresh_tokens = refresh_tokens

    def issue(self, request: TokenIssue) -> TokenSetResponse:
        """Return the answer of the token endpoint."""
        grant, n = request.family.grant, request.family.n
        token = self._issuer.issue(_access_claims(request))
        response: TokenSetResponse = {
            "access_token": token.access_token,
            "token_type": "Bearer",
            "expires_in": max(token.expires_in, 0),
            "scope": " ".join(request.scope),
        }
        if "openid" in request.scope:
            response["id_token"] = self._id_token(request, token.access_token)
        if n:
            response["refresh_token"] = self._refresh_tokens.format(RefreshToken(grant.family, n))
        return response

    def _id_token(self, request: TokenIssue, access_token: str) -> str:
        app = request.app
        return self._issuer.issue_id_token(
            {**self._user_claims(request), **_id_token_claims(request, access_token)},
            algorithm=app.id_token_alg,
            issued_at=request.issued_at,
            expires_at=request.issued_at + self._issuer.lifetime,
        )

    def _user_claims(self, request: TokenIssue) -> Claims:
        is_lean = request.app.id_token_claims == "lean"  # noqa: S105 - no password
        scope = () if is_lean else request.scope
        return self._claims.user_claims(request.profile, scope, request.family.grant.claims)


def _access_claims(request: TokenIssue) -> TokenClaims:
    grant = request.family.grant
    return TokenClaims(
        id=request.token_id or f"{grant.family}.{secrets.token_urlsafe(TOKEN_ID_BYTES)}",
        subject=grant.subject,
        client_id=request.app.id,
        issued_at=request.issued_at,
        authenticated_at=int(grant.auth_time),
        auth_methods=grant.amr,
        provider=grant.identity.provider,
        scope=tuple(request.scope),
        sid=grant.sid,
        incarnation=grant.incarnation,
        name=request.profile.name if "profile" in request.scope else None,
    )


def _id_token_claims(request: TokenIssue, access_token: str) -> Claims:
    grant = request.family.grant
    nonce = {} if request.nonce is None else {"nonce": request.nonce}
    return {
        "sub": grant.subject,
        "aud": request.app.id,
        "azp": request.app.id,
        "auth_time": _auth_time(grant, request.issued_at),
        "sid": grant.sid,
        "amr": list(grant.amr),
        "acr": grant.acr,
        "at_hash": at_hash(access_token, request.app.id_token_alg),
        **nonce,
    }


def _auth_time(grant: Grant, issued_at: int) -> int:
    """The clock that set it may be ahead of the issuing host."""
    return min(int(grant.auth_time), issued_at)
