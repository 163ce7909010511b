"""Signing keys, the key ring and its file."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from broker.infrastructure.crypto.secret_file import KeyFileError, SecretFile

Jwk = dict[str, Any]
"""A JSON Web Key, RFC 7517."""

KEY_SET_MAX_AGE = 300
"""Seconds for which a site may keep a key set: `Cache-Control` of the JWKS."""


class SigningAlgorithm(NamedTuple):
    """How a kind of key is made and written; `public`: the JWK members that are no secret."""

    generate: Callable[[], Any]
    to_jwk: Callable[..., Any]
    public: tuple[str, ...]


ALGORITHMS: Mapping[str, SigningAlgorithm] = {
    "ES256": SigningAlgorithm(
        lambda: ec.generate_private_key(ec.SECP256R1()),
        ECAlgorithm.to_jwk,
        ("kty", "crv", "x", "y"),
    ),
    "RS256": SigningAlgorithm(
        lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
        RSAAlgorithm.to_jwk,
        ("kty", "n", "e"),
    ),
    "EdDSA": SigningAlgorithm(
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


class SigningKeyFile:
    """A key ring in a file for its owner alone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = SecretFile(path)

    def load(self) -> KeyRing | None:
        """The ring, or None where there is no file.

        Raises KeyFileError for a file that is damaged or that others can read.
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
            raise self._file.damaged_error() from None
        return ring

    def create(self, ring: KeyRing) -> bool:
        """Write `ring` where there is no file yet; say whether there was none."""
        return self._file.create(_written(ring))

    def save(self, ring: KeyRing) -> None:
        self._file.replace(_written(ring))

    def missing_error(self) -> KeyFileError:
        return self._file.missing_error()


def _written(ring: KeyRing) -> str:
    content = {"present": ring.present, "next": ring.next, "former": list(ring.former)}
    return json.dumps(content, indent=2)


def open_key_ring(file: SigningKeyFile, algorithm: str) -> KeyRing:
    """The file's ring, made on first start; of instances that start at once, one makes it."""
    ring = file.load()
    if ring is not None:
        return ring
    fresh = KeyRing.new(algorithm)
    if file.create(fresh):
        return fresh
    ring = file.load()
    if ring is None:
        raise file.missing_error()
    return ring
