"""The modules of OpenID's basic certification plan, against a base URL.

Each test is named after its module of `oidcc-basic-certification-test-plan`, and with
`form_post` after that of `oidcc-formpost-basic-certification-test-plan`. Where the suite accepts
several behaviours, the test accepts the same. The tests run against the broker, and against a
certified provider, which shows that the tests are right.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.support.openid_agent import (
    CALLBACK,
    SITE,
    MakeParty,
    Page,
    RelyingParty,
    Reply,
    Return,
    Tokens,
    is_error,
    is_error_page,
)

CLAIMS_OF_SCOPE: Mapping[str, tuple[str, ...]] = {
    "profile": ("name", "nickname", "preferred_username", "picture", "locale", "zoneinfo"),
    "email": ("email", "email_verified"),
    "address": ("address",),
    "phone": ("phone_number", "phone_number_verified"),
}
"""OpenID Connect Core, section 5.4."""

NEEDS_PERSON = frozenset(
    {"login_required", "interaction_required", "account_selection_required", "consent_required"}
)
"""Errors for `prompt=none` that ask for a page; OpenID Connect Core, section 3.1.2.6."""


# ---- code flow ----


async def test_server(party: RelyingParty) -> None:
    tokens = await party.sign_in()

    reply = await party.userinfo(tokens.access_token)
    assert (reply.status, reply.body["sub"]) == (200, tokens.claims["sub"])


async def test_response_type_missing(party: RelyingParty) -> None:
    answer = await party.authorize(party.request(response_type=None))

    words = ("invalid_request", "unsupported_response_type")
    assert is_error(answer, *words) or is_error_page(answer)


async def test_idtoken_signature(party: RelyingParty) -> None:
    tokens = await party.sign_in()

    names = party.metadata["id_token_signing_alg_values_supported"]
    assert "RS256" in names
    header = json.loads(base64.urlsafe_b64decode(tokens.id_token.partition(".")[0] + "=="))
    assert header["alg"] == "RS256"


@pytest.mark.parametrize("way", ["get", "post-header", "post-body"])
async def test_userinfo(party: RelyingParty, way: str) -> None:
    tokens = await party.sign_in()
    url, token = party.metadata["userinfo_endpoint"], tokens.access_token
    header = {"Authorization": f"Bearer {token}"}
    ways: dict[str, tuple[str, dict[str, Any]]] = {
        "get": ("GET", {"headers": header}),
        "post-header": ("POST", {"headers": header, "skip_auto_headers": ["Content-Type"]}),
        "post-body": ("POST", {"data": {"access_token": token}}),
    }

    method, options = ways[way]
    reply = await party.ask(method, url, **options)

    assert reply.status == 200
    assert reply.headers["Content-Type"].startswith("application/json")
    assert reply.body["sub"] == tokens.claims["sub"]


async def test_ensure_request_without_nonce_succeeds(party: RelyingParty) -> None:
    tokens = await party.sign_in(nonce=None)

    assert "nonce" not in tokens.claims


async def test_server_client_secret_post(make_party: MakeParty) -> None:
    party = await make_party(token_endpoint_auth_method="client_secret_post")
    fields = party.request()
    code = await party.code(fields, await party.authorize(fields))

    reply = await party.exchange(code, client_id=party.client.id, client_secret=party.client.secret)

    assert (await party.tokens(reply, fields["nonce"])).claims["aud"]


async def test_ensure_request_with_valid_pkce_succeeds(party: RelyingParty) -> None:
    # The example of RFC 7636, appendix B.
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    fields = party.request(code_challenge=challenge, code_challenge_method="S256")
    code = await party.code(fields, await party.authorize(fields))

    reply = await party.exchange(code, code_verifier=verifier)

    assert await party.tokens(reply, fields["nonce"])


# ---- scopes and claims ----


async def check_scope(party: RelyingParty, scope: str) -> None:
    """Sign in with `scope`. A scope that the provider does not support is ignored."""
    tokens = await party.sign_in(scope=scope)

    claims = (await party.userinfo(tokens.access_token)).body
    assert claims["sub"] == tokens.claims["sub"]
    supported = set(party.metadata["scopes_supported"])
    for name in set(scope.split()) & supported - {"openid"}:
        assert set(CLAIMS_OF_SCOPE[name]) & set(claims), f"{name}: {claims}"
    assert isinstance(claims.get("email_verified", True), bool)
    assert isinstance(claims.get("phone_number_verified", True), bool)


@pytest.mark.parametrize("scope", CLAIMS_OF_SCOPE)
async def test_scope(party: RelyingParty, scope: str) -> None:
    await check_scope(party, f"openid {scope}")


async def test_scope_all(party: RelyingParty) -> None:
    await check_scope(party, "openid profile email address phone")


async def test_ensure_other_scope_order_succeeds(party: RelyingParty) -> None:
    await check_scope(party, "email openid")


async def test_claims_essential(party: RelyingParty) -> None:
    wanted = json.dumps({"userinfo": {"name": {"essential": True}}})

    tokens = await party.sign_in(claims=wanted)

    reply = await party.userinfo(tokens.access_token)
    if party.metadata.get("claims_parameter_supported"):
        assert reply.body["name"]


# ---- parameters that change a page, or nothing ----


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("display", "page"),
        ("display", "popup"),
        ("extra", "foobar"),
        ("login_hint", "bob@rp.example"),
        ("ui_locales", "se"),
        ("claims_locales", "se"),
        ("acr_values", "1 2"),
    ],
)
async def test_parameter_is_accepted(party: RelyingParty, name: str, value: str) -> None:
    tokens = await party.sign_in(**{name: value})

    assert tokens.claims["sub"]


async def test_ensure_request_with_supported_acr_succeeds(party: RelyingParty) -> None:
    wanted = party.metadata.get("acr_values_supported", ["1"])[:1]

    tokens = await party.sign_in(acr_values=wanted[0])

    assert isinstance(tokens.claims.get("acr", ""), str)


async def test_ensure_post_request_succeeds(party: RelyingParty) -> None:
    fields = party.request()

    tokens = await party.complete(fields, await party.authorize(fields, post=True))

    assert tokens.claims["sub"]


# ---- sign-in sessions ----


async def sign_in_a_minute_ago(party: RelyingParty, **changes: str) -> Tokens:
    """Sign in with the clock of the provider behind. A token is never ahead of its host's clock."""
    await party.provider.set_clock_ahead(-60)
    tokens = await party.sign_in(**changes)
    await party.provider.set_clock_ahead(0)
    return tokens


async def test_prompt_login(party: RelyingParty) -> None:
    first = await sign_in_a_minute_ago(party)
    fields = party.request(prompt="login")

    answer = await party.authorize(fields)

    assert isinstance(answer, Page)
    second = await party.complete(fields, answer)
    assert second.claims["sub"] == first.claims["sub"]
    assert second.claims["auth_time"] > first.claims["auth_time"]


async def test_prompt_none_not_logged_in(party: RelyingParty) -> None:
    fields = party.request(prompt="none")

    answer = await party.authorize(fields)

    assert is_error(answer, *NEEDS_PERSON), answer
    assert isinstance(answer, Return)
    assert answer.fields["state"] == fields["state"]
    assert "code" not in answer.fields


async def test_prompt_none_logged_in(party: RelyingParty) -> None:
    first = await party.sign_in()
    fields = party.request(prompt="none")

    answer = await party.authorize(fields)

    assert isinstance(answer, Return), answer
    second = await party.complete(fields, answer)
    assert second.claims["sub"] == first.claims["sub"]
    assert second.claims["auth_time"] == first.claims["auth_time"]


async def test_max_age_1(party: RelyingParty) -> None:
    first = await sign_in_a_minute_ago(party, max_age="15000")
    fields = party.request(max_age="1")

    answer = await party.authorize(fields)

    assert isinstance(answer, Page)
    second = await party.complete(fields, answer)
    assert second.claims["sub"] == first.claims["sub"]
    assert second.claims["auth_time"] > first.claims["auth_time"]


async def test_max_age_10000(party: RelyingParty) -> None:
    first = await party.sign_in()
    fields = party.request(max_age="10000")

    answer = await party.authorize(fields)

    assert isinstance(answer, Return), answer
    second = await party.complete(fields, answer)
    assert second.claims["sub"] == first.claims["sub"]
    assert second.claims["auth_time"] == first.claims["auth_time"]


async def test_id_token_hint(party: RelyingParty) -> None:
    first = await party.sign_in()
    fields = party.request(prompt="none", id_token_hint=first.id_token)

    answer = await party.authorize(fields)

    assert isinstance(answer, Return), answer
    assert (await party.complete(fields, answer)).claims["sub"] == first.claims["sub"]


# ---- codes and refresh tokens ----


@pytest.mark.parametrize("later", [0, 30])
async def test_codereuse(party: RelyingParty, later: int) -> None:
    fields = party.request()
    code = await party.code(fields, await party.authorize(fields))
    tokens = await party.tokens(await party.exchange(code), fields["nonce"])
    await party.provider.set_clock_ahead(later)

    again = await party.exchange(code)

    assert (again.status, again.body["error"]) == (400, "invalid_grant")
    assert (await party.userinfo(tokens.access_token)).status == 401


async def test_refresh_token(party: RelyingParty, make_party: MakeParty) -> None:
    first = await party.sign_in(scope="openid offline_access", prompt="consent")
    token = first.response["refresh_token"]

    reply = await party.token(grant_type="refresh_token", refresh_token=token)

    second = await refreshed(party, reply)
    changing = {"iat", "exp", "at_hash", "jti", "nonce"}
    for name in set(second) - changing:
        assert second[name] == first.claims[name], name
    assert {"iss", "sub", "aud"} <= set(second)
    stolen = reply.body.get("refresh_token", token)
    other = await make_party()
    refused = await other.token(grant_type="refresh_token", refresh_token=stolen)
    assert (refused.status, refused.body["error"]) == (400, "invalid_grant")


async def refreshed(party: RelyingParty, reply: Reply) -> dict[str, Any]:
    """Return the claims of the ID token of a refresh, which may repeat the nonce."""
    assert reply.status == 200, reply.body
    assert (await party.userinfo(reply.body["access_token"])).status == 200
    return await party.verified(reply.body["id_token"])


# ---- requests that are refused ----


@pytest.mark.parametrize(
    "uri",
    [
        f"{SITE}/other",
        f"{CALLBACK}/",
        f"{CALLBACK}?a=b",
        f"{CALLBACK}/../x",
        "https://evil.example",
    ],
)
async def test_ensure_registered_redirect_uri(party: RelyingParty, uri: str) -> None:
    answer = await party.authorize(party.request(redirect_uri=uri))

    assert is_error_page(answer)


def unsigned(fields: Mapping[str, object]) -> str:
    parts = (json.dumps(part).encode() for part in ({"alg": "none"}, fields))
    encoded = (base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
    return ".".join(encoded) + "."


async def test_request_uri_unsigned(party: RelyingParty) -> None:
    answer = await party.authorize(party.request(request_uri=f"{SITE}/request.jwt"))

    assert not party.metadata.get("request_uri_parameter_supported")
    assert is_error(answer, "request_uri_not_supported") or is_error_page(answer)


async def test_unsigned_request_object(party: RelyingParty) -> None:
    fields = party.request()

    answer = await party.authorize({**fields, "request": unsigned(fields)})

    assert not party.metadata.get("request_parameter_supported")
    assert is_error(answer, "request_not_supported") or is_error_page(answer)
