"""Clients that make the provider sign and verify without end delay no other client for long."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple

import aiohttp
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.builders import StartBroker
from tests.support.oidc_app import (
    SETTINGS,
    ProfileDirectory,
    RelyingParty,
    claims_of,
    relying_party,
)
from tests.support.session_server import basic

CONNECTIONS, REQUESTS, OTHERS = 20, 600, 3


class Provider(NamedTuple):
    """app: of the flooder and of the other clients. tokens: of one user."""

    app: RelyingParty
    tokens: dict[str, str]


@pytest.fixture
async def provider(start_broker: StartBroker) -> AsyncIterator[Provider]:
    broker = await start_broker(ProfileDirectory(), **SETTINGS, refresh_grace=60)
    async with relying_party(broker) as app:
        yield Provider(app, await app.tokens())


Call = Callable[[aiohttp.ClientSession], Awaitable[int]]


def caller(method: str, path: str, **options: object) -> Call:
    async def call(http: aiohttp.ClientSession) -> int:
        async with http.request(method, path, **options) as response:  # type: ignore[arg-type]
            await response.read()
            return response.status

    return call


async def refreshes(provider: Provider) -> tuple[Call, int]:
    """The same refresh token within its grace time: each answer has new signatures."""
    form = {"grant_type": "refresh_token", "refresh_token": provider.tokens["refresh_token"]}
    headers = {"Authorization": basic(provider.app.id, provider.app.secret)}
    return caller("POST", "/oauth/token", data=form, headers=headers), 200


async def forged_tokens(provider: Provider) -> tuple[Call, int]:
    token = await forged(provider, "access_token", "at+jwt")
    return caller("GET", "/oauth/userinfo", headers={"Authorization": f"Bearer {token}"}), 401


async def large_hints(provider: Provider) -> tuple[Call, int]:
    form = {"id_token_hint": await forged(provider, "id_token", "JWT", padding="x" * 11_000)}
    return caller("POST", "/oauth/logout", data=form), 200


async def forged(provider: Provider, name: str, typ: str, **claims: str) -> str:
    """Return a token that another RSA key has signed under the `kid` of the provider's."""
    async with provider.app.http.get("/.well-known/jwks.json") as response:
        keys = (await response.json())["keys"]
    kid = next(key["kid"] for key in keys if key["alg"] == "RS256")
    payload = claims_of(provider.tokens[name]) | claims
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    return jwt.encode(payload, key, "RS256", headers={"typ": typ, "kid": kid})


@pytest.mark.parametrize("flood", [refreshes, forged_tokens, large_hints])
async def test_flood_of_signatures_lets_other_clients_through(
    provider: Provider, flood: Callable[[Provider], Awaitable[tuple[Call, int]]]
) -> None:
    call, expected = await flood(provider)
    numbers, answers = itertools.count(), []

    async def connection(http: aiohttp.ClientSession) -> None:
        while next(numbers) < REQUESTS:
            answers.append(await call(http))

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(provider.app.url, connector=connector) as http:
        flooding = [asyncio.create_task(connection(http)) for _ in range(CONNECTIONS)]
        for _ in range(OTHERS):
            async with provider.app.http.get("/health/live") as health:
                assert health.status == 200
            assert (await provider.app.userinfo(provider.tokens["access_token"])).status == 200
        before = len(answers)
        await asyncio.gather(*flooding)

    print(f"{flood.__name__}: {before} of {len(answers)} answers before those of other clients")
    assert set(answers) == {expected}
    assert before < REQUESTS / 2
