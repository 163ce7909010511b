"""Signing keys, the key ring and the key file."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
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


ID_TOKEN_ALGORITHMS = ("RS256", "ES256")
"""Algorithms that an app may have for its ID tokens. OpenID Connect Core, section 15.1, requires
RS256."""

PUBLISHED_BEFORE_USE = 900
"""Seconds for which a key is published before it signs: three times `KEY_SET_MAX_AGE`, because
products cache the key set for longer than it says (Envoy: 600 seconds by default)."""


class KeyStatus(NamedTuple):
    """A key as operators see it.

    status: `present` signs, `next` signs after the next rotation, `former` still verifies.
    published_at: Unix time in seconds; None for a former key.
    """

    kid: str
    algorithm: str
    status: str
    published_at: float | None


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The private JWKs of one algorithm.

    present: the key that signs.
    next: the key that signs after the next rotation.
    former: public keys with `until`, the Unix time at which the last token of the key expires.

    `present` and `next` have `published_at`, the Unix time of their publication.
    """

    present: Jwk
    next: Jwk
    former: tuple[Jwk, ...] = ()

    @classmethod
    def new(cls, algorithm: str, now: float) -> KeyRing:
        return cls(_new_key(algorithm, now), _new_key(algorithm, now))

    @property
    def algorithm(self) -> str:
        return str(self.present["alg"])

    def rotated(self, *, now: float, token_lifetime: float, hint_lifetime: float) -> KeyRing:
        """Return the ring after a rotation.

        hint_lifetime: seconds for which a former key verifies `id_token_hint` after its last
            token has expired.
        """
        former = [key for key in self.former if key["until"] + hint_lifetime > now]
        # Another instance may sign with the old key until it reads the rotated file.
        retired = {**_public(self.present), "until": int(now + token_lifetime + 60)}
        return KeyRing(self.next, _new_key(self.algorithm, now), (*former, retired))

    def public(self, now: float) -> list[Jwk]:
        """Return the public keys that are valid at `now`, the present key first."""
        former = [key for key in self.former if key["until"] > now]
        return [_public(key) for key in (self.present, self.next, *former)]

    def unpublished_for(self, now: float) -> float:
        """Return the seconds until the next key may sign; 0 if it may."""
        return max(0.0, float(self.next["published_at"]) + PUBLISHED_BEFORE_USE - now)

    def described(self, now: float) -> list[KeyStatus]:
        """Return the keys that are valid at `now`, the present key first."""
        former = [key for key in self.former if key["until"] > now]
        return [
            KeyStatus(self.present["kid"], self.algorithm, "present", self.present["published_at"]),
            KeyStatus(self.next["kid"], self.algorithm, "next", self.next["published_at"]),
            *(KeyStatus(key["kid"], self.algorithm, "former", None) for key in former),
        ]


@dataclass(frozen=True, slots=True)
class KeyRings:
    """The key rings of a key file, one for each algorithm in use.

    main: the ring that signs access tokens; in the file, the fields that older brokers read.
    others: further rings, by algorithm.
    """

    main: KeyRing
    others: Mapping[str, KeyRing]

    @classmethod
    def new(cls, algorithms: Sequence[str], now: float) -> KeyRings:
        """algorithms: the first is that of access tokens."""
        main, *others = dict.fromkeys(algorithms)
        return cls(KeyRing.new(main, now), {name: KeyRing.new(name, now) for name in others})

    @property
    def all(self) -> Mapping[str, KeyRing]:
        return {self.main.algorithm: self.main, **self.others}

    def with_algorithms(self, algorithms: Sequence[str], now: float) -> KeyRings:
        """Return these rings and a new ring for each missing algorithm."""
        missing = [name for name in dict.fromkeys(algorithms) if name not in self.all]
        if not missing:
            return self
        return KeyRings(
            self.main, {**self.others, **{name: KeyRing.new(name, now) for name in missing}}
        )

    def access_ring(self, algorithm: str, now: float) -> KeyRing:
        """Return the ring that signs access tokens; `algorithm` is that of the settings.

        It is the main ring until the keys of another algorithm have been published long enough.
        """
        wanted = self.others.get(algorithm, self.main)
        is_published = wanted.present["published_at"] + PUBLISHED_BEFORE_USE <= now
        return wanted if is_published else self.main

    def rotated(
        self, *, now: float, token_lifetime: float, hint_lifetime: float, algorithm: str
    ) -> KeyRings:
        """Return the rings after a rotation of all.

        The main ring becomes that of `algorithm` if that ring signs access tokens.
        """
        main = self.access_ring(algorithm, now).algorithm
        rings = {
            name: ring.rotated(now=now, token_lifetime=token_lifetime, hint_lifetime=hint_lifetime)
            for name, ring in self.all.items()
        }
        return KeyRings(rings.pop(main), rings)

    def public(self, now: float) -> list[Jwk]:
        """Return the public keys that are valid at `now`, the main ring's present key first."""
        return [key for ring in self.all.values() for key in ring.public(now)]


def _new_key(algorithm: str, now: float) -> Jwk:
    spec = ALGORITHMS[algorithm]
    key: Jwk = spec.to_jwk(spec.generate(), as_dict=True)
    key.pop("key_ops", None)
    kid = _thumbprint(key, spec.public)
    return {**key, "kid": kid, "alg": algorithm, "use": "sig", "published_at": now}


def _thumbprint(key: Jwk, members: tuple[str, ...]) -> str:
    """Return the thumbprint of a key (RFC 7638): SHA-256 over its required members in order."""
    canonical = json.dumps({name: key[name] for name in sorted(members)}, separators=(",", ":"))
    digest = hashlib.sha256(canonical.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _public(key: Jwk) -> Jwk:
    members = (*ALGORITHMS[key["alg"]].public, "kid", "alg", "use")
    return {name: key[name] for name in members}


class SigningKeyFile:
    """Key rings in a file that only its owner can read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = SecretFile(path)

    def load(self) -> KeyRings | None:
        """Return the rings, or None if there is no file.

        Raises KeyFileError for a file that is damaged or that other users can read.
        """
        text = self._file.read()
        if text is None:
            return None
        try:
            content = json.loads(text)
            written_at = self.path.stat().st_mtime
            main = _parse_ring(content, written_at)
            others = {
                str(name): _parse_ring(ring, written_at)
                for name, ring in content.get("rings", {}).items()
            }
            rings = KeyRings(main, others)
            rings.public(now=0)
        except (ValueError, KeyError, TypeError, AttributeError, OSError, jwt.PyJWTError):
            raise self._file.damaged_error() from None
        return rings

    def create(self, rings: KeyRings) -> bool:
        """Write `rings` unless the file exists. Returns whether it was written."""
        return self._file.create(_serialize(rings))

    def save(self, rings: KeyRings) -> None:
        self._file.replace(_serialize(rings))

    def locked(self) -> AbstractContextManager[None]:
        """Keep other processes from changing the file. Readers do not wait."""
        return self._file.locked()

    def missing_error(self) -> KeyFileError:
        return self._file.missing_error()


def _parse_ring(content: Mapping[str, Any], written_at: float) -> KeyRing:
    """written_at: stands for `published_at` in a file of an older broker."""
    present, following = (
        {"published_at": written_at, **content[name]} for name in ("present", "next")
    )
    for key in (present, following):
        jwt.PyJWK({**key, "d": key["d"]})
    former = ({**_public(key), "until": float(key["until"])} for key in content["former"])
    return KeyRing(present, following, tuple(former))


def _serialize(rings: KeyRings) -> str:
    others = {name: _ring_fields(ring) for name, ring in rings.others.items()}
    return json.dumps({**_ring_fields(rings.main), "rings": others}, indent=2)


def _ring_fields(ring: KeyRing) -> dict[str, Any]:
    return {"present": ring.present, "next": ring.next, "former": list(ring.former)}


def open_key_rings(file: SigningKeyFile, algorithms: Sequence[str], now: float) -> KeyRings:
    """Return the rings of the file, with one for each algorithm.

    Rings that the file does not have are created by one of the starting instances.
    """
    rings = file.load()
    if rings is not None and set(algorithms) <= set(rings.all):
        return rings
    with file.locked():
        rings = file.load()
        if rings is None and file.create(new := KeyRings.new(algorithms, now)):
            return new
        rings = rings or file.load()  # another version, or another host, may not use the lock
        if rings is None:
            raise file.missing_error()
        return _complete(file, rings, algorithms, now)


def _complete(
    file: SigningKeyFile, rings: KeyRings, algorithms: Sequence[str], now: float
) -> KeyRings:
    complete = rings.with_algorithms(algorithms, now)
    if complete is rings:
        return rings
    try:
        file.save(complete)
    except KeyFileError as error:
        added = ", ".join(set(complete.all) - set(rings.all))
        raise KeyFileError(
            f"{error}; it has no keys of {added}: run scan-login key create with a copy that can "
            "be written, and give the result to every instance"
        ) from None
    return complete


class RotationTooEarly(Exception):
    """The next key is published for less than `PUBLISHED_BEFORE_USE`.  wait: seconds."""

    def __init__(self, wait: float) -> None:
        super().__init__(wait)
        self.wait = wait


def rotate_file(
    file: SigningKeyFile,
    rotate: Callable[[KeyRings], KeyRings],
    *,
    now: float,
    force: bool,
) -> KeyRings:
    """Store the result of `rotate`, and return it.

    force: rotate although products may not know the next keys yet.
    Raises RotationTooEarly or KeyFileError; the file is unchanged then.
    """
    with file.locked():
        rings = file.load()
        if rings is None:
            raise file.missing_error()
        wait = max(ring.unpublished_for(now) for ring in rings.all.values())
        if wait and not force:
            raise RotationTooEarly(wait)
        rotated = rotate(rings)
        file.save(rotated)
        return rotated
