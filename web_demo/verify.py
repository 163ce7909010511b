"""Is this token from our broker, for this site, and still good?

The broker signs with a private key and publishes the public ones at
`/.well-known/jwks.json`.  So a site checks a token by itself: no call to the
broker for each login, no shared secret.
"""

from collections.abc import Sequence
from typing import Any

import jwt

LEEWAY = 5  # seconds that the two clocks may differ
REQUIRED_CLAIMS = ["exp", "iat", "sub", "aud", "iss", "jti"]


class TokenVerifier:
    """Checks tokens that `broker` signed for `app`.

    issuer: what the broker calls itself (its public URL), where that differs from
        the address that this site reaches it by.
    algorithms: the ones we accept.  Fixed here and never read from the token,
        or whoever forges a token would choose how it is checked.
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
        # An unknown `kid` makes the client fetch the keys again, so a rotation needs nothing
        # here; the cooldown keeps made-up kids from costing the broker a request each.
        self._keys = jwt.PyJWKClient(
            f"{broker.rstrip('/')}/.well-known/jwks.json", timeout=5, cooldown_duration=1
        )

    def verify(self, token: str) -> dict[str, Any]:
        """Return the claims of `token`, each of them checked.

        Raises jwt.PyJWKClientConnectionError when the broker's keys cannot be had, which
        says nothing about the token, and another jwt.PyJWTError when the token is bad.
        May fetch keys and so blocks: call it with `asyncio.to_thread`.
        """
        header = _header(token)
        if header.get("typ") != "at+jwt":  # RFC 9068: an access token, not an ID token
            raise jwt.InvalidTokenError("not an access token")
        return jwt.decode(
            token,
            self._key(header.get("kid", "")),
            algorithms=self._algorithms,
            issuer=self._issuer,
            audience=self._app,
            leeway=LEEWAY,
            options={"require": REQUIRED_CLAIMS},
        )

    def _key(self, kid: str) -> jwt.PyJWK:
        try:
            return self._keys.get_signing_key(kid)
        except (OSError, ValueError, jwt.PyJWKSetError) as error:  # a cut line, a page of HTML
            raise jwt.PyJWKClientConnectionError(
                f"the broker's keys are unreadable: {error}"
            ) from error


def _header(token: str) -> dict[str, Any]:
    try:
        return jwt.get_unverified_header(token)
    except (RecursionError, UnicodeError) as error:  # JSON nested too deep, lone surrogates
        raise jwt.DecodeError("the token is malformed") from error
