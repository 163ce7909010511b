"""Tests of the metadata, and of sign-ins while the keys are rotated."""

from __future__ import annotations

from collections.abc import AsyncIterator

import jwt
import pytest

from broker.tokens.keys import SigningKeyFile
from broker.tokens.settings import TokenSettings
from tests.support.builders import StartBroker
from tests.support.openid_agent import SIGNED_OUT, Agent, RelyingParty, Return
from tests.support.openid_broker import BrokerProvider, running_broker_provider
from tests.support.waiting import eventually

Parties = tuple[BrokerProvider, RelyingParty]


@pytest.fixture
async def parties(start_broker: StartBroker) -> AsyncIterator[Parties]:
    async with running_broker_provider(start_broker) as provider, Agent() as agent:
        client = await provider.register()
        async with RelyingParty(provider, client, agent, person="alice") as party:
            yield provider, party


async def test_every_listed_scope_and_claim_is_delivered(parties: Parties) -> None:
    _, party = parties
    scopes = party.metadata["scopes_supported"]

    tokens = await party.sign_in(scope=" ".join(scopes))

    assert set(tokens.response["scope"].split()) == set(scopes)
    assert set(tokens.claims) == set(party.metadata["claims_supported"])


async def test_plain_oauth_grant_has_no_userinfo(parties: Parties) -> None:
    """A token that is not for the provider: without `openid` the issuer is not in `aud`."""
    _, party = parties
    fields = party.request(scope="profile")

    reply = await party.exchange(await party.code(fields, await party.authorize(fields)))

    assert reply.status == 200
    assert "id_token" not in reply.body
    refused = await party.userinfo(reply.body["access_token"])
    assert (refused.status, refused.body["error"]) == (403, "insufficient_scope")


def rotate(provider: BrokerProvider) -> dict[str, str]:
    """Rotate the key file of the running broker. Returns the kid that signs, by algorithm."""
    settings = provider.broker.settings[TokenSettings]
    file = SigningKeyFile(settings.key_file)
    rings = file.load()
    assert rings is not None
    rotated = rings.rotated(
        now=2_000_000_000, token_lifetime=600, hint_lifetime=600, algorithm="ES256"
    )
    file.save(rotated)
    return {name: ring.present["kid"] for name, ring in rotated.all.items()}


def kid_of(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


async def test_product_with_cached_keys_accepts_a_rotation(parties: Parties) -> None:
    provider, party = parties
    first = await party.sign_in(scope="openid offline_access")
    cached = (await party.ask("GET", party.metadata["jwks_uri"])).body["keys"]

    signing = rotate(provider)

    async def signs_with_the_next_key() -> bool:
        return kid_of((await party.sign_in()).id_token) == signing["RS256"]

    await eventually(signs_with_the_next_key)
    assert {*signing.values()} <= {key["kid"] for key in cached}
    assert (await party.userinfo(first.access_token)).status == 200
    reply = await party.token(
        grant_type="refresh_token", refresh_token=first.response["refresh_token"]
    )
    assert kid_of((await party.tokens(reply)).id_token) == signing["RS256"]


async def test_hint_of_a_former_key_signs_out(parties: Parties) -> None:
    provider, party = parties
    tokens = await party.sign_in()
    signing = rotate(provider)

    async def publishes_new_keys() -> bool:
        keys = (await party.ask("GET", party.metadata["jwks_uri"])).body["keys"]
        return str(keys[0]["kid"]) == signing["ES256"]

    await eventually(publishes_new_keys)
    fields = {"id_token_hint": tokens.id_token, "post_logout_redirect_uri": SIGNED_OUT}

    answer = await party.agent.open(party.metadata["end_session_endpoint"], fields)

    assert isinstance(answer, Return)
    assert str(answer.url) == SIGNED_OUT
