"""Signs JSON Web Tokens in the compact serialization (RFC 7515, section 7.1).

PyJWT encodes the header and chooses the algorithm for each token, which takes three times as long
as this. It verifies the tokens.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Mapping

import jwt

from broker.infrastructure.codec import encode
from broker.tokens.keys import Jwk


class Signer:
    """Signs with one private key, which is parsed once: parsing costs more than signing."""

    def __init__(self, key: Jwk) -> None:
        parsed = jwt.PyJWK(key)
        self._algorithm = parsed.Algorithm
        self._key = parsed.key
        self._header = {"alg": parsed.algorithm_name, "kid": key["kid"]}
        self._encoded_headers: dict[str, bytes] = {}

    def sign(self, claims: Mapping[str, object], kind: str) -> str:
        """Return a token with `claims`. kind: the header's `typ`."""
        header = self._encoded_headers.get(kind)
        if header is None:
            header = self._encoded_headers[kind] = _base64url(encode({**self._header, "typ": kind}))
        signed = header + b"." + _base64url(encode(claims))
        signature = self._algorithm.sign(signed, self._key)
        return (signed + b"." + _base64url(signature)).decode("ascii")


def _base64url(content: bytes) -> bytes:
    """Return BASE64URL without padding, RFC 7515, section 2."""
    return urlsafe_b64encode(content).rstrip(b"=")
