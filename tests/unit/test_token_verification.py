"""Tokens that the broker accepts again: access tokens and `id_token_hint`.

joserfc verifies what the broker signs, and joserfc or PyJWT sign what an attacker would send.
"""

from __future__ import annotations

import base64
import hmac
import json
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import KeySet

from broker.tokens.errors import InvalidToken
from broker.tokens.issuer import TOKEN_MAX, TokenClaims, TokenIssuer, at_hash
from broker.tokens.keys import ID_TOKEN_ALGORITHMS, KeyRings, SigningKeyFile
from tests.support.builders import Clock

ISSUER = "https://login.example"
HINT_LIFETIME = 3_600


@pytest.fixture(scope="module")
def rings() -> KeyRings:
    """Rings of both algorithms: an RSA key takes a tenth of a second."""
    return KeyRings.new(["ES256", "RS256"], 0)


@pytest.fixture
def file(tmp_path: Path, rings: KeyRings) -> SigningKeyFile:
    file = SigningKeyFile(tmp_path / "keys.json")
    file.save(rings)
    return file


@pytest.fixture
def issuer(file: SigningKeyFile, clock: Clock) -> TokenIssuer:
    return make_issuer(file, clock)


def make_issuer(file: SigningKeyFile, clock: Clock, url: str = ISSUER) -> TokenIssuer:
    return TokenIssuer(
        file=file,
        algorithm="ES256",
        issuer=url,
        lifetime=600,
        id_token_algorithms=ID_TOKEN_ALGORITHMS,
        hint_lifetime=HINT_LIFETIME,
        host_clock=clock,
    )


def access_claims(clock: Clock, **changes: Any) -> TokenClaims:
    return TokenClaims(
        id="token-1",
        subject="alice",
        client_id="shop",
        issued_at=int(clock()),
        authenticated_at=int(clock()) - 2,
        auth_methods=("scan",),
        provider="pretend",
        scope=("openid", "profile"),
        sid="session-1",
    )._replace(**changes)


def access_token(issuer: TokenIssuer, clock: Clock, **changes: Any) -> str:
    return issuer.issue(access_claims(clock, **changes)).access_token


def id_token(issuer: TokenIssuer, clock: Clock, algorithm: str = "RS256") -> str:
    now = int(clock())
    return issuer.issue_id_token(
        {"sub": "alice", "aud": "shop"}, algorithm=algorithm, issued_at=now, expires_at=now + 600
    )


def rotate(file: SigningKeyFile, clock: Clock) -> None:
    rings = file.load()
    assert rings is not None
    file.save(
        rings.rotated(
            now=clock(), token_lifetime=600, hint_lifetime=HINT_LIFETIME, algorithm="ES256"
        )
    )


# ---- what others verify ----


@pytest.mark.parametrize("algorithm", ID_TOKEN_ALGORITHMS)
def test_id_token_is_verified_by_another_library(
    issuer: TokenIssuer, clock: Clock, algorithm: str
) -> None:
    keys = KeySet.import_key_set(issuer.key_set())  # type: ignore[arg-type]

    token = joserfc_jwt.decode(id_token(issuer, clock, algorithm), keys, algorithms=[algorithm])

    assert token.claims.pop("jti")
    assert token.claims == {
        "iss": ISSUER,
        "sub": "alice",
        "aud": "shop",
        "iat": 1_000_000,
        "exp": 1_000_600,
    }
    assert (token.header["typ"], token.header["alg"]) == ("JWT", algorithm)


def test_each_id_token_has_its_own_id(issuer: TokenIssuer, clock: Clock) -> None:
    ids = {
        jwt.decode(id_token(issuer, clock), options={"verify_signature": False})["jti"]
        for _ in range(3)
    }

    assert len(ids) == 3


def test_claims_cannot_replace_the_issuer(issuer: TokenIssuer, clock: Clock) -> None:
    token = issuer.issue_id_token(
        {"iss": "https://evil.example", "exp": 1}, algorithm="ES256", issued_at=1, expires_at=2
    )

    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["iss"], claims["exp"]) == (ISSUER, 2)


def test_logout_token_lives_two_minutes(issuer: TokenIssuer, clock: Clock) -> None:
    keys = KeySet.import_key_set(issuer.key_set())  # type: ignore[arg-type]

    text = issuer.issue_logout_token({"aud": "shop"}, algorithm="RS256", issued_at=int(clock()))

    token = joserfc_jwt.decode(text, keys, algorithms=["RS256"])
    assert token.header["typ"] == "logout+jwt"
    assert token.claims["exp"] - token.claims["iat"] == 120
    assert token.claims["jti"]


def test_key_set_has_two_keys_for_each_algorithm(issuer: TokenIssuer) -> None:
    keys = issuer.key_set()["keys"]

    assert [key["alg"] for key in keys] == ["ES256", "ES256", "RS256", "RS256"]
    assert len({key["kid"] for key in keys}) == 4
    for key in keys:
        assert set(key) == {"kty", "kid", "alg", "use"} | (
            {"n", "e"} if key["kty"] == "RSA" else {"crv", "x", "y"}
        )


def test_at_hash_is_that_of_the_standard() -> None:
    """The example of OpenID Connect Core, appendix A.3."""
    token = "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y"

    assert at_hash(token, "RS256") == "77QmUPtjPfzWtF2AnpK9RQ"


# ---- access tokens ----


def test_own_access_token_is_accepted(issuer: TokenIssuer, clock: Clock) -> None:
    token = issuer.verify_access_token(access_token(issuer, clock))

    assert token._asdict() == {
        "id": "token-1",
        "subject": "alice",
        "client_id": "shop",
        "audience": ("shop", ISSUER),
        "scope": ("openid", "profile"),
        "sid": "session-1",
        "issued_at": 1_000_000,
        "expires_at": 1_000_600,
        "name": None,
        "incarnation": "",
    }


def test_token_without_openid_is_not_for_the_issuer(issuer: TokenIssuer, clock: Clock) -> None:
    text = access_token(issuer, clock, scope=(), sid=None)

    token = issuer.verify_access_token(text)

    assert (token.audience, token.scope, token.sid) == (("shop",), (), None)
    claims = jwt.decode(text, options={"verify_signature": False})
    assert claims["aud"] == "shop"
    assert not {"scope", "sid"} & set(claims)


def test_access_token_expires(issuer: TokenIssuer, clock: Clock) -> None:
    text = access_token(issuer, clock)
    clock.time += 599
    assert issuer.verify_access_token(text)

    clock.time += 1

    refuses(issuer, text)


def test_access_token_outlives_a_rotation(
    issuer: TokenIssuer, file: SigningKeyFile, clock: Clock
) -> None:
    text = access_token(issuer, clock)

    rotate(file, clock)
    clock.time += 5

    assert issuer.verify_access_token(text).id == "token-1"


def test_removed_key_verifies_no_access_token(
    issuer: TokenIssuer, file: SigningKeyFile, clock: Clock
) -> None:
    text = forged(issuer, file, clock, claims={"exp": 2_000_000})
    assert issuer.verify_access_token(text)
    rotate(file, clock)

    clock.time += 660

    refuses(issuer, text)


def test_token_of_another_issuer_is_refused(
    issuer: TokenIssuer, file: SigningKeyFile, clock: Clock
) -> None:
    """Two brokers may share a key file by mistake."""
    other = make_issuer(file, clock, "https://other.example")

    refuses(issuer, access_token(other, clock))
    assert issuer.verify_id_token_hint(id_token(other, clock)) is None


@pytest.mark.parametrize("kind", ["id", "logout"])
@pytest.mark.parametrize("algorithm", ID_TOKEN_ALGORITHMS)
def test_id_and_logout_tokens_are_refused(
    issuer: TokenIssuer, clock: Clock, kind: str, algorithm: str
) -> None:
    claims = {"aud": ["shop", ISSUER], "sub": "alice", "client_id": "shop", "scope": "openid"}
    now = int(clock())
    text = (
        issuer.issue_id_token(claims, algorithm=algorithm, issued_at=now, expires_at=now + 600)
        if kind == "id"
        else issuer.issue_logout_token(claims, algorithm=algorithm, issued_at=now)
    )

    refuses(issuer, text)


def forged(
    issuer: TokenIssuer,
    file: SigningKeyFile,
    clock: Clock,
    *,
    sign_with: str = "ES256",
    kid_of: str = "ES256",
    header: dict[str, Any] | None = None,
    claims: dict[str, Any] | None = None,
) -> str:
    """A token with all claims of an access token, signed with a key of the broker."""
    rings = file.load()
    assert rings is not None
    payload = jwt.decode(access_token(issuer, clock), options={"verify_signature": False})
    headers = {"typ": "at+jwt", "kid": rings.all[kid_of].present["kid"], **(header or {})}
    return jwt.encode(
        {**payload, **(claims or {})},
        jwt.PyJWK(rings.all[sign_with].present),
        sign_with,
        headers=headers,
    )


@pytest.mark.parametrize(("sign_with", "kid_of"), [("ES256", "RS256"), ("RS256", "ES256")])
def test_kid_of_another_ring_is_refused(
    issuer: TokenIssuer, file: SigningKeyFile, clock: Clock, sign_with: str, kid_of: str
) -> None:
    refuses(issuer, forged(issuer, file, clock, sign_with=sign_with, kid_of=kid_of))


@pytest.mark.parametrize("kid", ["", "unknown", "../keys.json", None])
def test_unknown_kid_is_refused(
    issuer: TokenIssuer, file: SigningKeyFile, clock: Clock, kid: str | None
) -> None:
    text = forged(issuer, file, clock, header={"kid": kid} if kid is not None else {})
    if kid is None:
        text = without_kid(text, file)

    refuses(issuer, text)


def without_kid(text: str, file: SigningKeyFile) -> str:
    rings = file.load()
    assert rings is not None
    claims = jwt.decode(text, options={"verify_signature": False})
    return jwt.encode(claims, jwt.PyJWK(rings.main.present), "ES256", headers={"typ": "at+jwt"})


@pytest.mark.parametrize("typ", ["JWT", "jwt", "logout+jwt", "", "application/at+jwt"])
def test_other_type_is_refused(
    issuer: TokenIssuer, file: SigningKeyFile, clock: Clock, typ: str
) -> None:
    refuses(issuer, forged(issuer, file, clock, header={"typ": typ}))


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", "", "HS256", "RS512"])
@pytest.mark.parametrize("kind", ["at+jwt", "JWT"])
def test_header_cannot_choose_the_algorithm(
    issuer: TokenIssuer, clock: Clock, name: str, kind: str
) -> None:
    signed = access_token(issuer, clock) if kind == "at+jwt" else id_token(issuer, clock)
    header = {**jwt.get_unverified_header(signed), "alg": name}
    _, payload, signature = signed.split(".")

    for end in ("", signature):
        text = f"{encoded(header)}.{payload}.{end}"
        refuses(issuer, text)
        assert issuer.verify_id_token_hint(text) is None


@pytest.mark.parametrize("form", ["pem", "jwk", "n"])
@pytest.mark.parametrize("kind", ["at+jwt", "JWT"])
def test_public_key_as_shared_secret_is_refused(
    issuer: TokenIssuer, clock: Clock, form: str, kind: str
) -> None:
    """HS256 with a public key as the secret: RFC 8725, section 2.1."""
    for key in issuer.key_set()["keys"]:
        public = jwt.PyJWK(key).key
        secret = {
            "pem": public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
            "jwk": json.dumps(key).encode(),
            "n": (key.get("n") or key["x"]).encode(),
        }[form]
        claims = jwt.decode(access_token(issuer, clock), options={"verify_signature": False})
        text = hs256({"alg": "HS256", "typ": kind, "kid": key["kid"]}, claims, secret)

        refuses(issuer, text)
        assert issuer.verify_id_token_hint(text) is None


def hs256(header: dict[str, Any], claims: dict[str, Any], secret: bytes) -> str:
    """Sign without PyJWT, which refuses a public key as a secret."""
    text = f"{encoded(header)}.{encoded(claims)}"
    return f"{text}.{base64url(hmac.digest(secret, text.encode(), 'sha256'))}"


def encoded(value: object) -> str:
    return base64url(json.dumps(value).encode())


def base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def test_key_in_the_header_is_ignored(
    issuer: TokenIssuer, file: SigningKeyFile, clock: Clock
) -> None:
    """An attacker's key in `jwk`, with the kid of the broker's key."""
    mine = KeyRings.new(["ES256"], 0).main.present
    public = {name: mine[name] for name in ("kty", "crv", "x", "y")}
    rings = file.load()
    assert rings is not None
    claims = jwt.decode(access_token(issuer, clock), options={"verify_signature": False})
    headers = {"typ": "at+jwt", "kid": rings.main.present["kid"], "jwk": public}

    refuses(issuer, jwt.encode(claims, jwt.PyJWK(mine), "ES256", headers=headers))


@pytest.mark.parametrize("part", [0, 1, 2])
def test_changed_part_is_refused(issuer: TokenIssuer, clock: Clock, part: int) -> None:
    parts = access_token(issuer, clock).split(".")
    at = len(parts[part]) // 2
    other = "A" if parts[part][at] != "A" else "B"
    parts[part] = parts[part][:at] + other + parts[part][at + 1 :]

    refuses(issuer, ".".join(parts))


@pytest.mark.parametrize("claim", ["jti", "sub", "client_id", "aud", "exp", "iat", "iss"])
def test_missing_claim_is_refused(
    issuer: TokenIssuer, file: SigningKeyFile, clock: Clock, claim: str
) -> None:
    rings = file.load()
    assert rings is not None
    text = forged(issuer, file, clock)
    claims = jwt.decode(text, options={"verify_signature": False})
    del claims[claim]
    headers = {"typ": "at+jwt", "kid": rings.main.present["kid"]}

    refuses(issuer, jwt.encode(claims, jwt.PyJWK(rings.main.present), "ES256", headers=headers))


MALFORMED = [
    "",
    ".",
    "..",
    "...",
    "a.b.c",
    "\x00",
    "é.é.é",
    "\udcff.\udcff.\udcff",
    "=" * 100,
    "." * TOKEN_MAX,
    "a" * (TOKEN_MAX + 1),
    f"{base64url(b'[' * 9_000)}.e30.AA",
    f"{encoded([])}.e30.AA",
    f"{encoded(1)}.e30.AA",
    f"{encoded({'alg': 'ES256', 'typ': 'at+jwt', 'kid': ['x']})}.e30.AA",
    f"{encoded({'alg': 'ES256', 'typ': 'at+jwt', 'kid': None})}.e30.AA",
    f"{encoded({'alg': ['ES256'], 'typ': 'at+jwt', 'kid': 'x'})}.e30.AA",
    f"{base64url(b'{' + b'1' * 9_000)}.e30.AA",
]


@pytest.mark.parametrize("text", MALFORMED, ids=range(len(MALFORMED)))
def test_malformed_token_is_refused(issuer: TokenIssuer, text: str) -> None:
    refuses(issuer, text)
    assert issuer.verify_id_token_hint(text) is None


def test_huge_token_with_a_valid_signature_is_refused(
    issuer: TokenIssuer, file: SigningKeyFile, clock: Clock
) -> None:
    refuses(issuer, forged(issuer, file, clock, claims={"padding": "x" * TOKEN_MAX}))


@pytest.mark.parametrize("crit", [["b64"], ["exp"], ["unknown"], []])
def test_critical_header_is_refused(
    issuer: TokenIssuer, file: SigningKeyFile, clock: Clock, crit: list[str]
) -> None:
    """RFC 7515, section 4.1.11: a verifier refuses extensions that it does not know."""
    text = forged(issuer, file, clock)
    _, payload, _ = text.split(".")
    rings = file.load()
    assert rings is not None
    header = {**jwt.get_unverified_header(text), "crit": crit}
    key = jwt.PyJWK(rings.main.present)
    signature = key.Algorithm.sign(f"{encoded(header)}.{payload}".encode(), key.key)

    refuses(issuer, f"{encoded(header)}.{payload}.{base64url(signature)}")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=200))
def test_arbitrary_text_is_refused(issuer: TokenIssuer, text: str) -> None:
    refuses(issuer, text)
    assert issuer.verify_id_token_hint(text) is None


def refuses(issuer: TokenIssuer, text: str) -> None:
    with pytest.raises(InvalidToken):
        issuer.verify_access_token(text)


# ---- hints ----


@pytest.mark.parametrize("algorithm", ID_TOKEN_ALGORITHMS)
def test_expired_hint_is_accepted(issuer: TokenIssuer, clock: Clock, algorithm: str) -> None:
    text = id_token(issuer, clock, algorithm)

    clock.time += 100_000

    claims = issuer.verify_id_token_hint(text)
    assert claims is not None
    assert (claims["sub"], claims["aud"]) == ("alice", "shop")


def test_access_and_logout_tokens_are_refused_as_hints(issuer: TokenIssuer, clock: Clock) -> None:
    logout = issuer.issue_logout_token({"sub": "alice"}, algorithm="RS256", issued_at=1)

    assert issuer.verify_id_token_hint(access_token(issuer, clock)) is None
    assert issuer.verify_id_token_hint(logout) is None


def test_hint_outlives_its_key_in_the_key_set(
    issuer: TokenIssuer, file: SigningKeyFile, clock: Clock
) -> None:
    text = id_token(issuer, clock)
    kid = jwt.get_unverified_header(text)["kid"]
    rotate(file, clock)

    clock.time += 1_000
    rotate(file, clock)
    clock.time += 1

    assert kid not in [key["kid"] for key in issuer.key_set()["keys"]]
    assert issuer.verify_id_token_hint(text) is not None


def test_hint_is_refused_after_the_hint_lifetime(
    issuer: TokenIssuer, file: SigningKeyFile, clock: Clock
) -> None:
    text = id_token(issuer, clock)
    rotate(file, clock)

    clock.time += 660 + HINT_LIFETIME

    assert issuer.verify_id_token_hint(text) is None


def test_former_keys_have_no_private_part(
    issuer: TokenIssuer, file: SigningKeyFile, clock: Clock
) -> None:
    rotate(file, clock)

    content = json.loads(file.path.read_text())

    for ring in (content, *content["rings"].values()):
        [former] = ring["former"]
        assert not {"d", "p", "q", "dp", "dq", "qi"} & set(former)
