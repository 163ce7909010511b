"""Verifies that a token is from the broker, is for this site, and is valid.

The broker signs tokens with a private key and publishes the public keys at
`/.well-known/jwks.json`. A site verifies tokens with the public keys. It needs no
call to the broker for each login and no shared secret.

A product uses the package `scan-login-client`. This file shows what the package does. The
example site does not use it, because it is part of the broker's distribution.
"""

from collections.abc import Sequence
from typing import Any

import jwt

LEEWAY = 5  # seconds; allowed difference between the clocks of broker and site
TOKEN_MAX_CHARACTERS = 16 * 1024
REQUIRED_CLAIMS = ["exp", "iat", "sub", "aud", "iss", "jti"]


class TokenVerifier:
    """Verifies tokens that `broker` signed for `app`.

    issuer: the public URL of the broker, if this site reaches the broker at another URL.
    algorithms: the accepted algorithms. They are never read from the token, because
        an attacker who forges a token must not choose the algorithm.
    """

    def __init__(
        self,
        *,
        broker: str,
        app: str,
        issuer: str | None = None,
        algorithms: Sequence[str] = ("ES256",),
    ) -> None:
        self._app = app
        self._issuer = issuer or broker.rstrip("/")
        self._algorithms = list(algorithms)
        # The client fetches the keys again for an unknown `kid`, which covers key rotation.
        # The cooldown limits these requests, because an attacker can invent kids.
        self._keys = jwt.PyJWKClient(
            f"{broker.rstrip('/')}/.well-known/jwks.json", timeout=5, cooldown_duration=1
        )

    def verify(self, token: str) -> dict[str, Any]:
        """Return the verified claims of `token`.

        Raises jwt.PyJWKClientConnectionError if the broker's keys are not available; the
        token may be valid then. Raises another jwt.PyJWTError if the token is invalid.
        The call may fetch keys and block: use `asyncio.to_thread`.
        """
        if len(token) > TOKEN_MAX_CHARACTERS:
            raise jwt.InvalidTokenError("the token is too long")
        header = _header(token)
        if header.get("typ") != "at+jwt":  # RFC 9068: an access token, not an ID token
            raise jwt.InvalidTokenError("not an access token")
        claims: dict[str, Any] = jwt.decode(
            token,
            self._key(header.get("kid", "")),
            algorithms=self._algorithms,
            issuer=self._issuer,
            audience=self._app,
            leeway=LEEWAY,
            options={"require": REQUIRED_CLAIMS},
        )
        if not claims["sub"] or not claims["jti"]:
            raise jwt.InvalidTokenError("sub or jti is empty")
        return claims

    def _key(self, kid: str) -> jwt.PyJWK:
        try:
            return self._keys.get_signing_key(kid)
        except (
            OSError,
            ValueError,
            jwt.PyJWKSetError,
        ) as error:  # a truncated answer, an HTML page
            raise jwt.PyJWKClientConnectionError(
                f"cannot read the broker's keys: {error}"
            ) from error


def _header(token: str) -> dict[str, Any]:
    try:
        return jwt.get_unverified_header(token)
    except (RecursionError, UnicodeError) as error:  # deeply nested JSON, lone surrogates
        raise jwt.DecodeError("the token is malformed") from error
