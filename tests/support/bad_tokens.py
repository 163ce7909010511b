"""Tokens that a site accepts, and tokens that it must refuse. Each is made from a valid one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm

ISSUER = "https://login.example"
AUDIENCE = "shop"
NOW = 1_800_000_000
LEEWAY = 30

ES256 = ECAlgorithm(ECAlgorithm.SHA256)


class Signer:
    """A broker's key with a `kid`.  now: when it issues its tokens."""

    def __init__(self, kid: str, now: int = NOW) -> None:
        self.kid = kid
        self.now = now
        self.key = ec.generate_private_key(ec.SECP256R1())

    @property
    def public(self) -> dict[str, str]:
        """The key as the broker publishes it."""
        key = ECAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        return {**key, "kid": self.kid, "alg": "ES256", "use": "sig"}

    @property
    def pem(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def token(self, *, header: Mapping[str, Any] | None = None, **changes: Any) -> str:
        """Return a token with changed header fields and claims; None removes one."""
        return signed(
            self.header(**(header or {})),
            self.claims(**changes),
            lambda text: ES256.sign(text, self.key),
        )

    def claims(self, **changes: Any) -> dict[str, Any]:
        return without_none(
            {
                **{"iss": ISSUER, "sub": "pretend:alice", "aud": AUDIENCE, "client_id": AUDIENCE},
                **{"iat": self.now, "exp": self.now + 600, "auth_time": self.now - 2},
                **{"jti": "token-1", "amr": ["scan"], "idp": "pretend"},
                **changes,
            }
        )

    def header(self, **changes: Any) -> dict[str, Any]:
        return without_none({"typ": "at+jwt", "alg": "ES256", "kid": self.kid, **changes})


def without_none(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def part(value: object) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def signed(header: object, payload: object, sign: Callable[[bytes], bytes]) -> str:
    text = f"{part(header)}.{part(payload)}"
    return f"{text}.{part(sign(text.encode()))}"


def hmac_token(signer: Signer, secret: bytes, algorithm: str = "HS256") -> str:
    """A token that is authentic for a verifier which takes the public key as a secret."""
    return signed(
        signer.header(alg=algorithm),
        signer.claims(),
        lambda text: hmac.digest(secret, text, hashlib.sha256),
    )


def altered(signer: Signer) -> str:
    """A token with another user and the old signature."""
    header, _, signature = signer.token().split(".")
    return f"{header}.{part(signer.claims(sub='pretend:admin'))}.{signature}"


def embedded_key(signer: Signer) -> str:
    """A token that names an attacker's key in its own header."""
    forger = Signer(signer.kid, signer.now)
    return forger.token(header={"jwk": forger.public, "jku": "https://evil.example/keys"})


def good_tokens(signer: Signer) -> dict[str, str]:
    now = signer.now
    return {
        "valid": signer.token(),
        "audience list": signer.token(aud=["other", AUDIENCE]),
        "long type": signer.token(header={"typ": "application/at+jwt"}),
        "expired within leeway": signer.token(exp=now - LEEWAY + 1),
        "issued in the future within leeway": signer.token(iat=now + LEEWAY - 1),
        "without optional claims": signer.token(auth_time=None, amr=None, idp=None),
    }


def bad_tokens(signer: Signer) -> dict[str, object]:
    now, pem, point = signer.now, signer.pem, signer.public["x"].encode()
    return {
        "alg none": signed(signer.header(alg="none"), signer.claims(), lambda _: b""),
        "alg None": signed(signer.header(alg="None"), signer.claims(), lambda _: b""),
        "alg none with signature": signer.token(header={"alg": "none"}),
        "alg missing": signer.token(header={"alg": None}),
        "alg list": signer.token(header={"alg": ["ES256"]}),
        "other alg": signer.token(header={"alg": "ES512"}),
        "hmac with public key": hmac_token(signer, pem),
        "hmac with public key as ES256": hmac_token(signer, pem, "ES256"),
        "hmac with point": hmac_token(signer, point),
        "typ JWT": signer.token(header={"typ": "JWT"}),
        "typ logout": signer.token(header={"typ": "logout+jwt"}),
        "typ missing": signer.token(header={"typ": None}),
        "kid unknown": Signer("other", now).token(),
        "kid missing": signer.token(header={"kid": None}),
        "kid number": signer.token(header={"kid": 1}),
        "kid path": signer.token(header={"kid": "../keys.json"}),
        "kid of an object's member": signer.token(header={"kid": "__proto__"}),
        "crit unknown": signer.token(header={"crit": ["x"], "x": 1}),
        "other key with same kid": Signer(signer.kid, now).token(),
        "key in header": embedded_key(signer),
        "altered": altered(signer),
        "no signature": signer.token().rpartition(".")[0] + ".",
        "iss other": signer.token(iss="https://evil.example"),
        "iss with slash": signer.token(iss=f"{ISSUER}/"),
        "iss prefix": signer.token(iss=ISSUER[:-1]),
        "iss list": signer.token(iss=[ISSUER]),
        "iss missing": signer.token(iss=None),
        "aud other": signer.token(aud="blog"),
        "aud prefix": signer.token(aud=AUDIENCE[:-1]),
        "aud empty": signer.token(aud=[]),
        "aud missing": signer.token(aud=None),
        "expired": signer.token(exp=now - LEEWAY),
        "exp missing": signer.token(exp=None),
        "exp text": signer.token(exp="tomorrow"),
        "exp true": signer.token(exp=True),
        "iat in the future": signer.token(iat=now + LEEWAY + 1),
        "iat missing": signer.token(iat=None),
        "iat text": signer.token(iat="now"),
        "nbf in the future": signer.token(nbf=now + LEEWAY + 1),
        "sub missing": signer.token(sub=None),
        "sub empty": signer.token(sub=""),
        "sub number": signer.token(sub=7),
        "jti missing": signer.token(jti=None),
        "jti empty": signer.token(jti=""),
        "jti number": signer.token(jti=7),
        "claims list": signed(signer.header(), [signer.claims()], lambda _: b"x" * 64),
        "header list": f"{part([1])}.{part(signer.claims())}.{part(b'x' * 64)}",
        "header nested": f"{part(b'[' * 5_000)}.e30.e30",
        "header not utf-8": f"{part(b'{' + bytes([255]) + b'}')}.e30.e30",
        "two parts": "e30.e30",
        "five parts": "e30.e30.e30.e30.e30",
        "not base64": "%.%.%",
        "empty": "",
        "surrogate": "\ud800",
        "too long": signer.token(filler="x" * 20_000),
        "null": None,
        "number": 7,
        "list": [signer.token()],
    }
