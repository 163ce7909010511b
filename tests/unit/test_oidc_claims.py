"""Tests of the claims of a user: each scope's claims, and values that are not made up."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.identity.model import UserProfile
from broker.oidc.claims import SCOPE_CLAIMS, ClaimSource, preferred_username

FULL = UserProfile(
    subject="u-1",
    name="Alice",
    nickname="Al",
    preferred_username="alice",
    picture="https://shop.example/a.png",
    locale="en",
    zoneinfo="Asia/Shanghai",
    email="alice@shop.example",
    email_verified=True,
    phone_number="+8613800138000",
    phone_number_verified=True,
    groups=("staff",),
)

EMPTY = UserProfile(subject="pretend:oABC-xyz")

texts = st.text(min_size=1, max_size=20)
flags = st.none() | st.booleans()
profiles = st.builds(
    UserProfile,
    subject=texts,
    name=st.none() | texts,
    nickname=st.none() | texts,
    preferred_username=st.none() | texts,
    email=st.none() | st.emails(),
    email_verified=flags,
    phone_number=st.none() | texts,
    phone_number_verified=flags,
    groups=st.none() | st.lists(texts, max_size=4).map(tuple),
)
scopes = st.lists(st.sampled_from([*SCOPE_CLAIMS]), unique=True)


def claims(profile: UserProfile, *scope: str, domain: str | None = None) -> dict[str, object]:
    return ClaimSource(email_domain=domain).user_claims(profile, scope)


@pytest.mark.parametrize("scope", SCOPE_CLAIMS)
def test_every_scope_delivers_its_claims(scope: str) -> None:
    assert tuple(claims(FULL, scope)) == tuple(
        name for name in SCOPE_CLAIMS[scope] if name != "sub"
    )


def test_unknown_values_are_left_out() -> None:
    assert claims(EMPTY, *SCOPE_CLAIMS) == {"preferred_username": preferred_username(EMPTY)}


def test_derived_username_is_lower_case_and_fixed() -> None:
    assert re.fullmatch(r"u-[a-z2-7]{12}", preferred_username(EMPTY))
    assert preferred_username(EMPTY) == preferred_username(replace(EMPTY, nickname="admin"))


def test_email_is_made_with_a_domain_only() -> None:
    name = preferred_username(EMPTY)

    assert claims(EMPTY, "email") == {}
    assert claims(EMPTY, "email", domain="login.example") == {"email": f"{name}@login.example"}


@given(profile=profiles, scope=scopes, domain=st.none() | st.just("login.example"))
def test_unverified_email_is_never_marked_verified(
    profile: UserProfile, scope: list[str], domain: str | None
) -> None:
    found = claims(profile, *scope, domain=domain)

    if found.get("email_verified"):
        assert profile.email_verified is True
        assert found["email"] == profile.email
    if found.get("phone_number_verified"):
        assert found["phone_number"] == profile.phone_number


@given(profile=profiles, scope=scopes)
def test_claims_belong_to_the_granted_scopes(profile: UserProfile, scope: list[str]) -> None:
    allowed = {name for one in scope for name in SCOPE_CLAIMS[one]}

    assert claims(profile, *scope).keys() <= allowed - {"sub"}


@given(profile=profiles, nickname=texts)
def test_username_does_not_depend_on_the_nickname(profile: UserProfile, nickname: str) -> None:
    assert preferred_username(profile) == preferred_username(replace(profile, nickname=nickname))
