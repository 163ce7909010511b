"""Authlib's client, with a response by form_post."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest
from authlib.integrations.requests_client import OAuth2Session
from joserfc import jws, jwt
from joserfc.jwk import KeySet

from tests.support.oidc_browser import ScanBrowser, new_person, parse
from tests.support.oidc_provider import Provider

CALLBACK = "http://127.0.0.1:1/callback"
"""No server listens there: the test reads what the browser would send."""


class Client(NamedTuple):
    provider: Provider
    metadata: dict[str, Any]
    oauth: OAuth2Session
    browser: ScanBrowser


@pytest.fixture
async def client(provider: Provider) -> AsyncIterator[Client]:
    secret = await provider.add_app(
        "authlib",
        redirect_urls=[CALLBACK],
        scopes=["openid", "profile", "email", "offline_access"],
    )
    session = OAuth2Session(
        "authlib",
        secret,
        scope="openid profile offline_access",
        redirect_uri=CALLBACK,
        code_challenge_method="S256",
    )
    with session as oauth:
        metadata = await fetch(oauth, f"{provider.issuer}/.well-known/openid-configuration")
        async with ScanBrowser(provider.issuer, phones=provider.phones) as browser:
            yield Client(provider, metadata, oauth, browser)


async def fetch(oauth: OAuth2Session, url: str) -> dict[str, Any]:
    """Return a JSON document that needs no token."""
    found = await asyncio.to_thread(oauth.get, url, withhold_token=True)
    return dict(found.json())


async def test_form_post_response_leads_to_valid_tokens(client: Client) -> None:
    person, nonce, verifier = new_person(), secrets.token_urlsafe(), secrets.token_urlsafe(48)
    url, state = client.oauth.create_authorization_url(
        client.metadata["authorization_endpoint"],
        response_mode="form_post",
        nonce=nonce,
        code_verifier=verifier,
    )

    page = await client.browser.open(url)
    form = await client.browser.submit_login(page, await client.browser.confirmed(page, person))
    answer = parse(form.text)

    assert answer.action == CALLBACK
    assert (answer.fields["state"], answer.fields["iss"]) == (state, client.provider.issuer)
    token = await asyncio.to_thread(
        client.oauth.fetch_token,
        client.metadata["token_endpoint"],
        code=answer.fields["code"],
        code_verifier=verifier,
    )
    claims = await id_token_claims(client, token["id_token"])
    assert (claims["sub"], claims["nonce"]) == (f"pretend:{person}", nonce)
    assert claims["aud"] == claims["azp"] == "authlib"


async def test_refreshed_id_token_keeps_the_claims(client: Client) -> None:
    first = await id_token_claims(client, await signed_in(client, new_person()))

    refreshed = await asyncio.to_thread(
        client.oauth.refresh_token, client.metadata["token_endpoint"]
    )

    second = await id_token_claims(client, refreshed["id_token"])
    changing = {"iat", "exp", "at_hash", "jti", "nonce"}
    assert {n: v for n, v in first.items() if n not in changing} == {
        n: v for n, v in second.items() if n not in changing
    }


async def test_cached_keys_verify_tokens_after_a_rotation(client: Client) -> None:
    """An app that caches the key set has the next key before the provider signs with it."""
    before, keys = await signed_in(client, new_person()), await key_set(client)

    await client.provider.rotate_keys()

    person = new_person()
    after = await signed_in(client, person)
    assert (await id_token_claims(client, after, keys))["sub"] == f"pretend:{person}"
    assert key_id(after) != key_id(before)


async def signed_in(client: Client, person: str) -> str:
    """Sign in by `form_post` and return the ID token."""
    verifier = secrets.token_urlsafe(48)
    url, _ = client.oauth.create_authorization_url(
        client.metadata["authorization_endpoint"], response_mode="form_post", code_verifier=verifier
    )
    page = await client.browser.open(url)
    form = await client.browser.submit_login(page, await client.browser.confirmed(page, person))
    token = await asyncio.to_thread(
        client.oauth.fetch_token,
        client.metadata["token_endpoint"],
        code=parse(form.text).fields["code"],
        code_verifier=verifier,
    )
    return str(token["id_token"])


async def key_set(client: Client) -> KeySet:
    keys: Any = await fetch(client.oauth, client.metadata["jwks_uri"])
    return KeySet.import_key_set(keys)


def key_id(text: str) -> str:
    return str(jws.extract_compact(text.encode()).headers()["kid"])


async def id_token_claims(client: Client, text: str, keys: KeySet | None = None) -> dict[str, Any]:
    """Return the claims of an ID token, verified by joserfc.

    keys: by default those that are published now.
    """
    token = jwt.decode(text, keys or await key_set(client), algorithms=["RS256"])
    registry = jwt.JWTClaimsRegistry(
        iss={"essential": True, "value": client.provider.issuer},
        aud={"essential": True, "value": "authlib"},
        exp={"essential": True},
    )
    registry.validate(token.claims)
    return dict(token.claims)
