"""Tests of the tokens of a grant, and of the text of refresh tokens."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jwt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.apps.model import App
from broker.identity.model import Identity
from broker.infrastructure.crypto.sealing import SecretBox
from broker.oidc.claims import SCOPE_CLAIMS, ClaimSource
from broker.oidc.grants import is_verifier
from broker.oidc.model import ACR_SCAN, Family, Grant
from broker.oidc.refresh_tokens import RefreshToken, RefreshTokens
from broker.oidc.tokens import TokenIssue, TokenSigner
from broker.tokens.issuer import TokenIssuer
from broker.tokens.keys import SigningKeyFile
from tests.support.oidc_app import FULL_PROFILE

CHANGING = {"iat", "exp", "at_hash", "jti", "nonce"}

FAMILY = "A" + "b" * 21


def secret_box(*keys: bytes) -> SecretBox:
    box = SecretBox(lambda: keys)
    box.load()
    return box


NEW, OLD = b"n" * 32, b"o" * 32


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> TokenSigner:
    issuer = TokenIssuer(
        file=SigningKeyFile(tmp_path_factory.mktemp("keys") / "keys.json"),
        algorithm="ES256",
        issuer="https://login.example",
        lifetime=600,
        id_token_algorithms=["RS256", "ES256"],
    )
    return TokenSigner(
        issuer=issuer,
        claims=ClaimSource(email_domain=None),
        refresh_tokens=RefreshTokens(secret_box(NEW)),
    )


def family(scope: tuple[str, ...], n: int, claims: tuple[str, ...] = ()) -> Family:
    now = time.time()
    grant = Grant(
        family=FAMILY,
        sid="A" + "s" * 21,
        app="shop",
        incarnation="",
        subject=FULL_PROFILE.subject,
        identity=Identity("pretend", "alice"),
        scope=scope,
        offline=True,
        claims=claims,
        auth_time=now - 100,
        amr=("scan",),
        acr=ACR_SCAN,
        login_id="A" + "l" * 21,
    )
    return Family(
        grant=grant,
        n=n,
        rotated_at=now,
        began_at=now,
        used_at=now,
        expires_at=now + 1000,
        latest_end=now + 1000,
    )


def id_token_claims(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return {name: value for name, value in claims.items() if name not in CHANGING}


@settings(deadline=None, max_examples=30, suppress_health_check=[*HealthCheck])
@given(
    extra=st.lists(st.sampled_from([*SCOPE_CLAIMS]), unique=True),
    claims=st.sampled_from([(), ("name",), ("email", "groups")]),
    form=st.sampled_from(["full", "lean"]),
    later=st.integers(1, 10**6),
)
def test_refreshed_id_token_keeps_all_claims(
    signer: TokenSigner, extra: list[str], claims: tuple[str, ...], form: str, later: int
) -> None:
    app = App(
        id="shop", name="Shop", origins=frozenset(), id_token_alg="ES256", id_token_claims=form
    )
    scope = tuple(dict.fromkeys(["openid", *extra]))
    first = TokenIssue(
        app, family(scope, 1, claims), FULL_PROFILE, scope, int(time.time()), nonce="n-1"
    )
    refreshed = first._replace(
        family=replace(first.family, n=2), issued_at=first.issued_at + later, nonce=None
    )

    before, after = (signer.issue(one)["id_token"] for one in (first, refreshed))

    assert id_token_claims(before) == id_token_claims(after)


def test_refresh_token_is_read_back() -> None:
    tokens = RefreshTokens(secret_box(NEW))
    token = RefreshToken(FAMILY, 7)

    assert tokens.parse(tokens.format(token)) == token
    assert tokens.format(token) == tokens.format(token)


def test_refresh_token_of_an_older_seal_key_works() -> None:
    text = RefreshTokens(secret_box(OLD)).format(RefreshToken(FAMILY, 1))

    assert RefreshTokens(secret_box(NEW, OLD)).parse(text) == RefreshToken(FAMILY, 1)
    assert RefreshTokens(secret_box(NEW)).parse(text) is None


CHANGES: dict[str, Callable[[str], str]] = {
    "n": lambda text: text.replace(".1.", ".2."),
    "family": lambda text: "B" + text[1:],
    "mac": lambda text: text[:-2] + ("AA" if text[-2:] != "AA" else "BB"),
    "zero": lambda text: text.replace(".1.", ".01."),
    "shorter": lambda text: text[:-1],
    "not ASCII": lambda text: text[:-1] + "é",
    "empty": lambda text: "",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changed_refresh_token_is_refused(change: Callable[[str], str]) -> None:
    tokens = RefreshTokens(secret_box(NEW))

    assert tokens.parse(change(tokens.format(RefreshToken(FAMILY, 1)))) is None


def test_verifier_matches_the_example_of_rfc_7636() -> None:
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"

    assert is_verifier(verifier, challenge)
    assert not is_verifier(challenge, verifier)
    assert not is_verifier(challenge, challenge)
    assert not is_verifier(None, challenge)
    assert not is_verifier(verifier, None)
    assert is_verifier(None, None)
