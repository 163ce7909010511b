"""Issues JWT access tokens (RFC 9068) and publishes the key set (RFC 7517).

The present key signs. The next key is already published, so that sites know it before it
signs. Former keys are published until the last token that they signed has expired.

    next ──rotate──▶ present ──rotate──▶ former ──last token expires──▶ removed
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import jwt
import structlog

from broker.infrastructure.crypto.secret_file import KeyFileError
from broker.tokens.keys import Jwk, KeyRing, SigningKeyFile, open_key_ring

log = structlog.get_logger()

KEY_SET_PATH = "/.well-known/jwks.json"

RELOAD_INTERVAL = 1.0
"""Seconds between two checks whether another process has rotated the key file."""


class TokenClaims(NamedTuple):
    """The claims that differ between tokens; RFC 9068, section 2.2.

    id: `jti`. client_id: also `aud`.
    issued_at, authenticated_at: Unix time in seconds, `iat` and `auth_time`.
    auth_methods: `amr`. provider: `idp`.
    """

    id: str
    subject: str | None
    client_id: str
    issued_at: int
    authenticated_at: int
    auth_methods: tuple[str, ...]
    provider: str


class Token(NamedTuple):
    """A signed token and its remaining lifetime in seconds."""

    access_token: str
    expires_in: int


class TokenIssuer:
    """Signs tokens with the present key and loads a key file that another process has rotated.

    issuer: the tokens' `iss`, the broker's public URL.
    lifetime: of a token, in seconds.
    host_clock: this host's Unix time in seconds, by which sites check tokens.
    """

    def __init__(
        self,
        *,
        file: SigningKeyFile,
        algorithm: str,
        issuer: str,
        lifetime: int,
        host_clock: Callable[[], float] = time.time,
    ) -> None:
        now = host_clock()
        self._host_clock = host_clock
        self._file = file
        self._issuer = issuer
        self._lifetime = lifetime
        ring = open_key_ring(file, algorithm)
        if ring.present["alg"] != algorithm:
            ring = ring.rotated(now=now, token_lifetime=lifetime, algorithm=algorithm)
            file.save(ring)
        self._use(ring)
        self._loaded_version = self._file_version()
        self._checked_at = now

    def issue_time(self, now: float) -> float:
        """Return the `iat` of a token that is issued at `now`, the time of the state.

        It is never ahead of this host's clock, because sites refuse a token from the future.
        It is at most half a lifetime behind, so that the token can still be used.
        """
        host_now = self._host_clock()
        return max(min(now, host_now), host_now - self._lifetime / 2)

    def issue(self, claims: TokenClaims) -> Token:
        """Return a signed token.

        Everything but `expires_in` depends only on `claims`, the settings and the key.
        """
        self._reload_if_rotated()
        expires_at = claims.issued_at + self._lifetime
        payload = {
            "iss": self._issuer,
            "sub": claims.subject,
            "aud": claims.client_id,
            "client_id": claims.client_id,
            "iat": claims.issued_at,
            "exp": expires_at,
            "jti": claims.id,
            # The clock that set it may be ahead of the issuing host.
            "auth_time": min(claims.authenticated_at, claims.issued_at),
            "amr": claims.auth_methods,
            "idp": claims.provider,
        }
        headers = {"typ": "at+jwt", "kid": self._ring.present["kid"]}
        token = jwt.encode(payload, self._key, self._ring.present["alg"], headers=headers)
        return Token(token, expires_at - int(self._host_clock()))

    def key_set(self) -> dict[str, list[Jwk]]:
        """Return the JWKS: the present key, the next key and former keys in use."""
        self._reload_if_rotated()
        return {"keys": self._ring.public(self._host_clock())}

    def key_ids(self) -> tuple[str, ...]:
        """Return the ids of the keys in the JWKS; the first one signs."""
        return tuple(key["kid"] for key in self.key_set()["keys"])

    def _use(self, ring: KeyRing) -> None:
        self._ring = ring
        self._key = jwt.PyJWK(ring.present)  # parsed once: parsing costs more than signing

    def _file_version(self) -> tuple[int, int] | None:
        """Return a value that changes with the file, or None if the file cannot be read."""
        try:
            status = self._file.path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino

    def _reload_if_rotated(self) -> None:
        """Load a rotated key file. A missing or damaged file is ignored."""
        now = self._host_clock()
        if 0 <= now - self._checked_at < RELOAD_INTERVAL:
            return
        self._checked_at = now
        version = self._file_version()  # before reading: a later rotation is found next time
        if version in (None, self._loaded_version):
            return
        self._loaded_version = version
        try:
            ring = self._file.load()
        except KeyFileError as error:
            log.error("signing key reload failed", reason=str(error))
            return
        if ring is not None:
            self._use(ring)
