"""The signer of tokens: other libraries verify what it signs."""

from __future__ import annotations

import jwt
import pytest
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import import_key

from broker.tokens.jws import Signer
from broker.tokens.keys import ALGORITHMS, KeyRing

CLAIMS = {"sub": "张三", "amr": ("scan",), "iat": 1, "note": '"\\\u2028', "none": None}
"""Claims as the issuer has them: tuples are arrays."""

DECODED = {**CLAIMS, "amr": ["scan"]}


@pytest.fixture(params=sorted(ALGORITHMS))
def ring(request: pytest.FixtureRequest) -> KeyRing:
    return KeyRing.new(request.param, 0)


def test_signed_token_is_verified_by_pyjwt(ring: KeyRing) -> None:
    token = Signer(ring.present).sign(CLAIMS, "at+jwt")

    decoded = jwt.decode_complete(
        token,
        jwt.PyJWK(ring.public(0)[0]),
        algorithms=[ring.algorithm],
        options={"verify_iat": False},
    )

    assert decoded["payload"] == DECODED
    assert decoded["header"] == {
        "alg": ring.algorithm,
        "kid": ring.present["kid"],
        "typ": "at+jwt",
    }


@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")  # EdDSA
def test_signed_token_is_verified_by_joserfc(ring: KeyRing) -> None:
    token = Signer(ring.present).sign(CLAIMS, "JWT")

    decoded = joserfc_jwt.decode(token, import_key(ring.public(0)[0]), algorithms=[ring.algorithm])

    assert decoded.claims == DECODED


def test_signer_keeps_the_headers_of_each_type_apart(ring: KeyRing) -> None:
    signer = Signer(ring.present)
    kinds = ["at+jwt", "JWT", "logout+jwt", "at+jwt"]

    headers = [jwt.get_unverified_header(signer.sign({}, kind)) for kind in kinds]

    assert [header["typ"] for header in headers] == kinds


def test_token_has_no_padding(ring: KeyRing) -> None:
    signer = Signer(ring.present)

    assert not any("=" in signer.sign({"n": "x" * size}, "JWT") for size in range(3))
