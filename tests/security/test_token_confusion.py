"""Tokens of another kind, app or signer at the endpoints that take tokens."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from yarl import URL

from broker.tokens.keys import Jwk, KeyRings, SigningKeyFile
from broker.tokens.settings import TokenSettings
from tests.support.builders import StartBroker
from tests.support.openid_agent import SIGNED_OUT, Agent, Page, RelyingParty, Reply, Return, Tokens
from tests.support.openid_broker import BrokerProvider, running_broker_provider


class Victim(NamedTuple):
    """A person who is signed in at an app, and the keys of the broker."""

    party: RelyingParty
    tokens: Tokens
    rings: KeyRings
    provider: BrokerProvider


@pytest.fixture
async def victim(start_broker: StartBroker) -> AsyncIterator[Victim]:
    async with running_broker_provider(start_broker) as provider, Agent() as agent:
        client = await provider.register()
        async with RelyingParty(provider, client, agent, person="alice") as party:
            rings = SigningKeyFile(provider.broker.settings[TokenSettings].key_file).load()
            assert rings is not None
            tokens = await party.sign_in(scope="openid profile offline_access")
            yield Victim(party, tokens, rings, provider)


def claims_of(text: str) -> dict[str, Any]:
    return dict(jwt.decode(text, options={"verify_signature": False}))


def signed(claims: dict[str, Any], key: Jwk, typ: str, kid: str | None = None) -> str:
    headers = {"typ": typ, "kid": kid or key["kid"]}
    return jwt.encode(claims, jwt.PyJWK(key), key["alg"], headers=headers)


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def unsigned(victim: Victim) -> str:
    header = {"alg": "none", "typ": "at+jwt", "kid": victim.rings.main.present["kid"]}
    return f"{encoded(header)}.{encoded(claims_of(victim.tokens.access_token))}."


def signed_with_public_key(victim: Victim) -> str:
    key = victim.rings.all["RS256"].present
    public = jwt.PyJWK(key).key.public_key()
    secret = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    header = {"alg": "HS256", "typ": "at+jwt", "kid": key["kid"]}
    text = f"{encoded(header)}.{encoded(claims_of(victim.tokens.access_token))}"
    mac = hmac.digest(secret, text.encode(), "sha256")
    return f"{text}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def of_another_ring(victim: Victim) -> str:
    claims = claims_of(victim.tokens.access_token)
    key, other = victim.rings.main.present, victim.rings.all["RS256"].present
    return signed(claims, key, "at+jwt", kid=other["kid"])


def of_an_attacker(victim: Victim) -> str:
    claims = claims_of(victim.tokens.access_token)
    mine = KeyRings.new(["ES256"], 0).main.present
    return signed(claims, mine, "at+jwt", kid=victim.rings.main.present["kid"])


def id_token(victim: Victim) -> str:
    return victim.tokens.id_token


def refresh_token(victim: Victim) -> str:
    return str(victim.tokens.response["refresh_token"])


def logout_token(victim: Victim) -> str:
    claims = claims_of(victim.tokens.access_token)
    return signed(claims, victim.rings.all["RS256"].present, "logout+jwt")


def expired(victim: Victim) -> str:
    claims = claims_of(victim.tokens.access_token)
    return signed({**claims, "exp": claims["iat"]}, victim.rings.main.present, "at+jwt")


def huge(victim: Victim) -> str:
    return victim.tokens.access_token + "A" * 7_000


def empty(victim: Victim) -> str:
    return "."


FORGERIES: list[Callable[[Victim], str]] = [
    unsigned,
    signed_with_public_key,
    of_another_ring,
    of_an_attacker,
    logout_token,
    expired,
    huge,
    empty,
]

OTHER_KINDS: list[Callable[[Victim], str]] = [id_token, refresh_token]


async def call(party: RelyingParty, name: str, token: str) -> Reply:
    """Call an endpoint of apps with the app's secret."""
    fields = {"client_id": party.client.id, "client_secret": party.client.secret, "token": token}
    return await party.ask("POST", party.metadata[f"{name}_endpoint"], data=fields)


@pytest.mark.parametrize("forge", [*FORGERIES, *OTHER_KINDS])
async def test_userinfo_refuses_other_tokens(
    victim: Victim, forge: Callable[[Victim], str]
) -> None:
    assert (await victim.party.userinfo(victim.tokens.access_token)).status == 200

    reply = await victim.party.userinfo(forge(victim))

    assert (reply.status, reply.body["error"]) == (401, "invalid_token")
    assert reply.headers["WWW-Authenticate"].startswith('Bearer error="invalid_token"')


@pytest.mark.parametrize("forge", [*FORGERIES, id_token])
async def test_introspection_reports_forged_tokens_as_inactive(
    victim: Victim, forge: Callable[[Victim], str]
) -> None:
    reply = await call(victim.party, "introspection", forge(victim))

    assert (reply.status, reply.body) == (200, {"active": False})


@pytest.mark.parametrize("forge", [*FORGERIES, id_token])
async def test_revocation_ignores_forged_tokens(
    victim: Victim, forge: Callable[[Victim], str]
) -> None:
    reply = await call(victim.party, "revocation", forge(victim))

    assert reply.status == 200
    assert (await victim.party.userinfo(victim.tokens.access_token)).status == 200


async def test_token_of_another_app_is_useless_to_this_app(victim: Victim) -> None:
    client = await victim.provider.register()
    async with RelyingParty(
        victim.provider, client, victim.party.agent, person="alice"
    ) as attacker:
        for token in (victim.tokens.access_token, refresh_token(victim)):
            assert (await call(attacker, "introspection", token)).body == {"active": False}
            assert (await call(attacker, "revocation", token)).status == 200
        stolen = refresh_token(victim)
        reply = await attacker.token(grant_type="refresh_token", refresh_token=stolen)

    assert (reply.status, reply.body["error"]) == (400, "invalid_grant")
    assert (await victim.party.userinfo(victim.tokens.access_token)).status == 200
    again = await victim.party.token(grant_type="refresh_token", refresh_token=stolen)
    assert again.status == 200


def hint_of_an_attacker(victim: Victim) -> str:
    mine = KeyRings.new(["ES256"], 0).main.present
    kid = victim.rings.all["RS256"].present["kid"]
    return signed(claims_of(victim.tokens.id_token), mine, "JWT", kid=kid)


def access_token(victim: Victim) -> str:
    return victim.tokens.access_token


@pytest.mark.parametrize("forge", [*FORGERIES, access_token, hint_of_an_attacker])
async def test_forged_hint_signs_no_browser_out(
    victim: Victim, forge: Callable[[Victim], str]
) -> None:
    fields = {"id_token_hint": forge(victim), "post_logout_redirect_uri": SIGNED_OUT}
    url = URL(victim.party.metadata["end_session_endpoint"]).with_query(fields)

    answer = await victim.party.agent.open(url)

    assert isinstance(answer, Page)
    silent = await victim.party.authorize(victim.party.request(prompt="none"))
    assert isinstance(silent, Return)
    assert "code" in silent.fields


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer  ",
        "bearer x",
        "Basic eDp5",
        "Bearer a b",
        "Bearer \x80.é.ÿ",
    ],
)
async def test_malformed_authorization_is_an_invalid_token(victim: Victim, header: str) -> None:
    url = victim.party.metadata["userinfo_endpoint"]

    reply = await victim.party.ask("GET", url, headers={"Authorization": header})

    assert (reply.status, reply.body["error"]) == (401, "invalid_token")
