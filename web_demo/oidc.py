"""Signs users in with OpenID Connect: the authorization code flow with PKCE.

    browser ──▶ /oidc/sign-in ──303──▶ provider ──scan, confirm──▶ /oidc/callback?code
                                                                      │ code, verifier, secret
                                                                      ▼
                                                  provider's token endpoint ──▶ ID token

A product uses its OpenID Connect library. This file shows what such a library does.
"""

import asyncio
import base64
import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus, urlencode

import aiohttp
import jwt
from aiohttp import web

from .verify import LEEWAY

ATTEMPT_LIFETIME = 600  # seconds
ATTEMPTS_MAX = 10_000
TIMEOUT = aiohttp.ClientTimeout(total=10)
ALGORITHMS = ["RS256", "ES256"]
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"


class SignInFailed(Exception):
    """The user is not signed in. The message names the reason."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A sign-in that has begun. browser: the value of the cookie of its browser."""

    browser: str
    nonce: str
    verifier: str
    expires_at: float


@dataclass(frozen=True, slots=True)
class SignedIn:
    """The claims of the ID token, and the token for the logout."""

    claims: dict[str, Any]
    id_token: str


class OIDCClient:
    """The site as a client of the provider.

    site_url: the URL of this site in browsers. Register `{site_url}/oidc/callback` as redirect URL,
        `{site_url}/` as post-logout URL and `{site_url}/oidc/backchannel-logout` at the provider.
    """

    def __init__(self, *, issuer: str, client_id: str, client_secret: str, site_url: str) -> None:
        self._issuer = issuer
        self._client_id = client_id
        # Both parts are form-encoded (RFC 6749, section 2.3.1).
        self._auth = aiohttp.encode_basic_auth(quote_plus(client_id), quote_plus(client_secret))
        self._site_url = site_url
        self._attempts: dict[str, Attempt] = {}
        self._metadata: dict[str, Any] = {}
        self._keys: jwt.PyJWKClient | None = None

    async def begin(self) -> tuple[str, str]:
        """Return the URL of the provider, and the value of a cookie for this browser."""
        metadata = await self._discover()
        state, nonce, verifier, browser = (secrets.token_urlsafe(32) for _ in range(4))
        self._store(state, Attempt(browser, nonce, verifier, time.time() + ATTEMPT_LIFETIME))
        query = {
            "response_type": "code",
            "client_id": self._client_id,
            "redirect_uri": f"{self._site_url}/oidc/callback",
            "scope": "openid profile",
            "state": state,
            "nonce": nonce,
            "code_challenge": _challenge(verifier),
            "code_challenge_method": "S256",
        }
        return f"{metadata['authorization_endpoint']}?{urlencode(query)}", browser

    async def finish(self, query: dict[str, str], browser: str) -> SignedIn:
        """Return the user of a callback. Raises SignInFailed."""
        attempt = self._attempts.pop(query.get("state", ""), None)
        if attempt is None or attempt.expires_at < time.time():
            raise SignInFailed("the sign-in has expired; start again")
        if not hmac.compare_digest(attempt.browser, browser):
            raise SignInFailed("the sign-in began in another browser; start again")
        if query.get("iss") != self._issuer:  # RFC 9207: another provider answered
            raise SignInFailed("the answer is from another provider")
        if "code" not in query:
            raise SignInFailed(query.get("error_description") or query.get("error", "no code"))
        id_token = await self._exchange(query["code"], attempt.verifier)
        claims = await self._verify(id_token)
        if claims.get("nonce") != attempt.nonce:
            raise SignInFailed("the ID token is not for this sign-in")
        return SignedIn(claims, id_token)

    async def logout_url(self, id_token: str) -> str:
        """Return where the browser signs out at the provider too."""
        metadata = await self._discover()
        query = {"id_token_hint": id_token, "post_logout_redirect_uri": f"{self._site_url}/"}
        return f"{metadata['end_session_endpoint']}?{urlencode(query)}"

    async def ended_session(self, logout_token: str) -> str:
        """Return the `sid` of a back-channel logout. Raises SignInFailed."""
        claims = await self._verify(logout_token, kind="logout+jwt")
        if LOGOUT_EVENT not in claims.get("events", {}) or "nonce" in claims:
            raise SignInFailed("not a logout token")
        return str(claims.get("sid", ""))

    async def _exchange(self, code: str, verifier: str) -> str:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": f"{self._site_url}/oidc/callback",
            "code_verifier": verifier,
        }
        headers = {"Authorization": self._auth}
        async with (
            aiohttp.ClientSession(timeout=TIMEOUT) as http,
            http.post(self._metadata["token_endpoint"], data=form, headers=headers) as response,
        ):
            answer = await response.json()
        if "id_token" not in answer:
            raise SignInFailed(answer.get("error_description", "the provider returned no ID token"))
        return str(answer["id_token"])

    async def _verify(self, token: str, kind: str = "JWT") -> dict[str, Any]:
        await self._discover()
        try:
            if jwt.get_unverified_header(token).get("typ") != kind:
                raise jwt.InvalidTokenError(f"not a {kind}")
            return await asyncio.to_thread(self._decode, token)
        except jwt.PyJWTError as error:
            raise SignInFailed(f"the token is invalid: {error}") from error

    def _decode(self, token: str) -> dict[str, Any]:
        assert self._keys is not None
        key = self._keys.get_signing_key_from_jwt(token)
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=ALGORITHMS,
            issuer=self._issuer,
            audience=self._client_id,
            leeway=LEEWAY,
            options={"require": ["exp", "iat", "sub", "aud", "iss"]},
        )
        return claims

    async def _discover(self) -> dict[str, Any]:
        """Return the provider's metadata, read once. Raises SignInFailed."""
        if not self._metadata:
            url = f"{self._issuer}/.well-known/openid-configuration"
            try:
                async with aiohttp.ClientSession(timeout=TIMEOUT) as http, http.get(url) as found:
                    metadata = await found.json()
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                raise SignInFailed(f"the provider is unreachable: {error}") from error
            if metadata.get("issuer") != self._issuer:
                raise SignInFailed("the provider has another issuer")
            self._keys = jwt.PyJWKClient(metadata["jwks_uri"], timeout=5, cooldown_duration=1)
            self._metadata = metadata
        return self._metadata

    def _store(self, state: str, attempt: Attempt) -> None:
        while len(self._attempts) >= ATTEMPTS_MAX:
            del self._attempts[next(iter(self._attempts))]
        self._attempts[state] = attempt


def _challenge(verifier: str) -> str:
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


async def read_logout_token(request: web.Request) -> str:
    return str((await request.post()).get("logout_token", ""))
