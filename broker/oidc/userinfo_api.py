"""Userinfo (OpenID Connect Core, section 5.3): the claims of the user of an access token."""

from __future__ import annotations

from typing import Any

from aiohttp import hdrs, web

from broker.apps.ports import Apps
from broker.errors import InvalidRequest
from broker.infrastructure.api.bodies import FORM_TYPE, read_form
from broker.infrastructure.api.endpoint import Auth, Endpoint
from broker.infrastructure.api.responses import no_store_response
from broker.oidc.claims import ClaimSource
from broker.oidc.errors import InsufficientScope
from broker.oidc.families import ActiveFamily, Families, family_of
from broker.oidc.paths import USERINFO_PATH
from broker.tokens.errors import InvalidToken
from broker.tokens.issuer import TokenIssuer, VerifiedAccessToken

ACCESS_TOKEN = Auth(
    {
        "accessToken": {
            "type": "http",
            "scheme": "bearer",
            "description": "an access token of the user",
        }
    },
    alternatives=(("accessToken",),),
    errors=(InvalidToken,),
)
"""An access token of this provider. The handler gets the `web.Request`."""


class UserinfoAPI:
    """Answers with the claims that the ID token has."""

    def __init__(
        self, *, issuer: TokenIssuer, families: Families, claims: ClaimSource, apps: Apps
    ) -> None:
        self._issuer = issuer
        self._families = families
        self._claims = claims
        self._apps = apps

    async def userinfo(self, http: web.Request) -> web.Response:
        """Raises InvalidRequest, InvalidToken or InsufficientScope."""
        token = self._issuer.verify_access_token(await read_bearer_token(http))
        if self._issuer.issuer not in token.audience:
            raise InsufficientScope
        active = await self._active_family(token)
        claims = self._claims.user_claims(active.profile, token.scope, active.family.grant.claims)
        return no_store_response({"sub": token.subject, **claims})

    async def _active_family(self, token: VerifiedAccessToken) -> ActiveFamily:
        family_id, app = family_of(token), self._apps.get(token.client_id)
        if family_id is None or app is None:
            raise InvalidToken
        active = await self._families.with_profile(family_id, app)
        if active is None:
            raise InvalidToken
        return active


async def read_bearer_token(http: web.Request) -> str:
    """Return the access token of the header or of the form (RFC 6750, section 2).

    Raises InvalidToken without one, and InvalidRequest for two.
    """
    header = http.headers.get(hdrs.AUTHORIZATION)
    has_form = http.method == hdrs.METH_POST and http.content_type == FORM_TYPE
    in_form = (await read_form(http)).get("access_token") if has_form else None
    if header is None and in_form is not None:
        return in_form
    scheme, _, token = (header or "").partition(" ")
    if scheme.lower() != "bearer":
        raise InvalidToken
    if in_form is not None:
        raise InvalidRequest("access_token: send it in the form or in the header, not both")
    return token.strip()


def _endpoint(method: str, operation_id: str, summary: str) -> Endpoint:
    return Endpoint(
        method,
        USERINFO_PATH,
        UserinfoAPI.userinfo,
        role="oidc",
        operation_id=operation_id,
        summary=summary,
        auth=ACCESS_TOKEN,
        response=dict[str, Any],
        errors=(InsufficientScope,),
    )


ENDPOINTS = [
    _endpoint("GET", "getUserinfo", "The claims of the user of an access token"),
    _endpoint("POST", "getUserinfoByForm", "The claims of the user; the token may be in the form"),
]
