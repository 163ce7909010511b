"""The JWTs that a site checks by itself, and the keys they are signed with.

A key file holds one present key, which signs, one next key, which is published
ahead of its time so that sites know it before it signs, and former keys until
the last token they signed has ended.  Rotation moves each one place on.

    next ──rotate──▶ present ──rotate──▶ former ──last token ended──▶ gone

Tokens are access tokens after RFC 9068 (`typ: at+jwt`), the key set is RFC 7517's.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jwt
import structlog
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from broker.errors import KeyFileUnusable
from broker.login import Login
from broker.private_file import PrivateFile

log = structlog.get_logger()

Jwk = dict[str, Any]
"""A JSON Web Key, RFC 7517."""

KEY_SET_MAX_AGE = 300
"""Seconds for which a site may keep a key set: `Cache-Control` of the JWKS."""

RELOAD_EVERY = 1.0
"""Seconds between two looks at whether the key file was rotated by another process."""


class Algorithm(NamedTuple):
    """How a kind of key is made and written; `public`: the JWK members that are no secret."""

    generate: Callable[[], Any]
    to_jwk: Callable[..., Any]
    public: tuple[str, ...]


ALGORITHMS: Mapping[str, Algorithm] = {
    "ES256": Algorithm(
        lambda: ec.generate_private_key(ec.SECP256R1()),
        ECAlgorithm.to_jwk,
        ("kty", "crv", "x", "y"),
    ),
    "RS256": Algorithm(
        lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
        RSAAlgorithm.to_jwk,
        ("kty", "n", "e"),
    ),
    "EdDSA": Algorithm(
        ed25519.Ed25519PrivateKey.generate,
        OKPAlgorithm.to_jwk,
        ("kty", "crv", "x"),
    ),
}


@dataclass(frozen=True, slots=True)
class KeyRing:
    """What a key file holds: private JWKs.

    former: each with `until`, the Unix time at which its last token has ended.
    """

    present: Jwk
    next: Jwk
    former: tuple[Jwk, ...] = ()

    @classmethod
    def new(cls, algorithm: str) -> KeyRing:
        return cls(_new_key(algorithm), _new_key(algorithm))

    def rotated(self, *, now: float, token_lifetime: float, algorithm: str) -> KeyRing:
        """The ring one place on; a next key of another algorithm than asked for is made anew."""
        kept = tuple(key for key in self.former if key["until"] > now)
        upcoming = self.next if self.next["alg"] == algorithm else _new_key(algorithm)
        # A token signed by another instance just before it sees the rotation ends later.
        ended = {**self.present, "until": int(now + token_lifetime + 60)}
        return KeyRing(upcoming, _new_key(algorithm), (*kept, ended))

    def public(self, now: float) -> list[Jwk]:
        """The keys as the key set shows them, present first, without anything secret."""
        former = [key for key in self.former if key["until"] > now]
        return [_public(key) for key in (self.present, self.next, *former)]


def _new_key(algorithm: str) -> Jwk:
    kind = ALGORITHMS[algorithm]
    key: Jwk = kind.to_jwk(kind.generate(), as_dict=True)
    key.pop("key_ops", None)
    return {**key, "kid": _thumbprint(key, kind.public), "alg": algorithm, "use": "sig"}


def _thumbprint(key: Jwk, members: tuple[str, ...]) -> str:
    """RFC 7638: SHA-256 over the required members in order, so that a kid names one key only."""
    canonical = json.dumps({name: key[name] for name in sorted(members)}, separators=(",", ":"))
    digest = hashlib.sha256(canonical.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _public(key: Jwk) -> Jwk:
    members = (*ALGORITHMS[key["alg"]].public, "kid", "alg", "use")
    return {name: key[name] for name in members}


class KeyFile:
    """A key ring in a file for its owner alone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = PrivateFile(path)

    def load(self) -> KeyRing | None:
        """The ring, or None where there is no file.

        Raises KeyFileUnusable for a file that is damaged or that others can read.
        """
        text = self._file.read()
        if text is None:
            return None
        try:
            content = json.loads(text)
            ring = KeyRing(content["present"], content["next"], tuple(content["former"]))
            ring.public(now=0)
            for key in (ring.present, ring.next):
                jwt.PyJWK({**key, "d": key["d"]})
        except (ValueError, KeyError, TypeError, jwt.PyJWTError):
            raise self._file.damaged() from None
        return ring

    def create(self, ring: KeyRing) -> bool:
        """Write `ring` where there is no file yet; say whether there was none."""
        return self._file.create(_written(ring))

    def save(self, ring: KeyRing) -> None:
        self._file.replace(_written(ring))

    def vanished(self) -> KeyFileUnusable:
        return self._file.vanished()


def _written(ring: KeyRing) -> str:
    content = {"present": ring.present, "next": ring.next, "former": list(ring.former)}
    return json.dumps(content, indent=2)


def open_ring(file: KeyFile, algorithm: str) -> KeyRing:
    """The file's ring, made on first start; of instances that start at once, one makes it."""
    ring = file.load()
    if ring is not None:
        return ring
    fresh = KeyRing.new(algorithm)
    if file.create(fresh):
        return fresh
    ring = file.load()
    if ring is None:
        raise file.vanished()
    return ring


class Token(NamedTuple):
    """A signed token and its life in seconds."""

    access_token: str
    expires_in: int


class Issuer:
    """Signs tokens with the present key, and notices when another process has rotated the file.

    issuer: the tokens' `iss`, the broker's public URL.
    lifetime: of a token, in seconds.
    host_clock: this host's Unix time in seconds, by which sites check tokens.
    """

    def __init__(
        self,
        *,
        file: KeyFile,
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
        ring = open_ring(file, algorithm)
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
        if 0 <= now - self._looked_at < RELOAD_EVERY:
            return
        self._looked_at = now
        stamp = self._stamp()  # before reading: a rotation in between is seen next time
        if stamp in (None, self._seen):
            return
        self._seen = stamp
        try:
            ring = self._file.load()
        except KeyFileUnusable as error:
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
