"""Signing keys, the key ring and the key file."""

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
"""Seconds for which a site may cache the JWKS: its `Cache-Control`."""


class SigningAlgorithm(NamedTuple):
    """An algorithm and its keys.

    generate: returns a new private key.
    to_jwk: returns a key as a JWK.
    public: the JWK members that are not secret.
    """

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
    """The private JWKs of a key file.

    present: the key that signs.
    next: the key that signs after the next rotation.
    former: keys with `until`, the Unix time at which the last token of the key expires.
    """

    present: Jwk
    next: Jwk
    former: tuple[Jwk, ...] = ()

    @classmethod
    def new(cls, algorithm: str) -> KeyRing:
        return cls(_new_key(algorithm), _new_key(algorithm))

    def rotated(self, *, now: float, token_lifetime: float, algorithm: str) -> KeyRing:
        """Return the ring after a rotation. A next key of another algorithm is replaced."""
        former = tuple(key for key in self.former if key["until"] > now)
        present = self.next if self.next["alg"] == algorithm else _new_key(algorithm)
        # Another instance may sign with the old key until it reads the rotated file.
        retired = {**self.present, "until": int(now + token_lifetime + 60)}
        return KeyRing(present, _new_key(algorithm), (*former, retired))

    def public(self, now: float) -> list[Jwk]:
        """Return the public keys of the JWKS, the present key first."""
        former = [key for key in self.former if key["until"] > now]
        return [_public(key) for key in (self.present, self.next, *former)]


def _new_key(algorithm: str) -> Jwk:
    spec = ALGORITHMS[algorithm]
    key: Jwk = spec.to_jwk(spec.generate(), as_dict=True)
    key.pop("key_ops", None)
    return {**key, "kid": _thumbprint(key, spec.public), "alg": algorithm, "use": "sig"}


def _thumbprint(key: Jwk, members: tuple[str, ...]) -> str:
    """Return the thumbprint of a key (RFC 7638): SHA-256 over its required members in order."""
    canonical = json.dumps({name: key[name] for name in sorted(members)}, separators=(",", ":"))
    digest = hashlib.sha256(canonical.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _public(key: Jwk) -> Jwk:
    members = (*ALGORITHMS[key["alg"]].public, "kid", "alg", "use")
    return {name: key[name] for name in members}


class SigningKeyFile:
    """A key ring in a file that only its owner can read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = SecretFile(path)

    def load(self) -> KeyRing | None:
        """Return the ring, or None if there is no file.

        Raises KeyFileError for a file that is damaged or that other users can read.
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
        """Write `ring` unless the file exists. Returns whether it was written."""
        return self._file.create(_serialize(ring))

    def save(self, ring: KeyRing) -> None:
        self._file.replace(_serialize(ring))

    def missing_error(self) -> KeyFileError:
        return self._file.missing_error()


def _serialize(ring: KeyRing) -> str:
    content = {"present": ring.present, "next": ring.next, "former": list(ring.former)}
    return json.dumps(content, indent=2)


def open_key_ring(file: SigningKeyFile, algorithm: str) -> KeyRing:
    """Return the ring of the file. If there is no file, one starting instance creates it."""
    ring = file.load()
    if ring is not None:
        return ring
    new = KeyRing.new(algorithm)
    if file.create(new):
        return new
    ring = file.load()
    if ring is None:
        raise file.missing_error()
    return ring
