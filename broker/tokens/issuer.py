"""The JWTs that a site checks by itself, and the keys they are signed with.

A key file holds one present key, which signs, one next key, which is published
ahead of its time so that sites know it before it signs, and former keys until
the last token they signed has ended.  Rotation moves each one place on.

    next ──rotate──▶ present ──rotate──▶ former ──last token ended──▶ gone

Tokens are access tokens after RFC 9068 (`typ: at+jwt`), the key set is RFC 7517's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import jwt
import structlog

from broker.infrastructure.crypto.secret_file import KeyFileError
from broker.login.model import Login
from broker.tokens.keys import Jwk, KeyRing, SigningKeyFile, open_key_ring

log = structlog.get_logger()

KEY_SET_PATH = "/.well-known/jwks.json"

RELOAD_INTERVAL = 1.0
"""Seconds between two looks at whether the key file was rotated by another process."""


class Token(NamedTuple):
    """A signed token and its life in seconds."""

    access_token: str
    expires_in: int


class TokenIssuer:
    """Signs tokens with the present key, and notices when another process has rotated the file.

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
        self._seen = self._stamp()
        self._looked_at = now

    def _use(self, ring: KeyRing) -> None:
        self._ring = ring
        self._key = jwt.PyJWK(ring.present)  # parsed once: parsing costs more than signing

    def _stamp(self) -> tuple[int, int] | None:
        try:
            status = self._file.path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino

    def _follow(self) -> None:
        """Take over a rotated file.  A file that has gone or is damaged changes nothing here."""
        now = self._host_clock()
        if 0 <= now - self._looked_at < RELOAD_INTERVAL:
            return
        self._looked_at = now
        stamp = self._stamp()  # before reading: a rotation in between is seen next time
        if stamp in (None, self._seen):
            return
        self._seen = stamp
        try:
            ring = self._file.load()
        except KeyFileError as error:
            log.error("the rotated key file is not taken over", reason=str(error))
            return
        if ring is not None:
            self._use(ring)

    def issue_time(self, now: float) -> float:
        """Return the `iat` of a token that is issued at the shared time `now`.

        It is never ahead of this host's clock, because sites refuse a token from the future.
        It is at most half a lifetime behind, so that the token can still be used.
        """
        host_now = self._host_clock()
        return max(min(now, host_now), host_now - self._lifetime / 2)

    def issue(self, login: Login) -> Token:
        """Return the token of a redeemed login; claims after RFC 9068, section 2.2.

        Its claims depend only on the login, so a repeat returns the same token.  Its
        `expires_in` is its remaining lifetime.
        """
        if login.phone is None or login.confirmed_at is None or login.redeemed_at is None:
            raise ValueError(f"login {login.id} was never redeemed")
        self._follow()
        issued_at = int(login.redeemed_at)
        claims = {
            "iss": self._issuer,
            "sub": login.subject,
            "aud": login.app,
            "client_id": login.app,
            "iat": issued_at,
            "exp": issued_at + self._lifetime,
            "jti": login.id,
            "auth_time": min(int(login.confirmed_at), issued_at),
            "amr": ["scan"],
            "idp": login.phone.identity.provider,
        }
        headers = {"typ": "at+jwt", "kid": self._ring.present["kid"]}
        token = jwt.encode(claims, self._key, self._ring.present["alg"], headers=headers)
        return Token(token, issued_at + self._lifetime - int(self._host_clock()))

    def key_set(self) -> dict[str, list[Jwk]]:
        """The JWKS: present and next key, and former ones until their last token has ended."""
        self._follow()
        return {"keys": self._ring.public(self._host_clock())}

    def key_ids(self) -> tuple[str, ...]:
        """Return the ids of the keys in the JWKS; the first one signs."""
        return tuple(key["kid"] for key in self.key_set()["keys"])
