"""Attacks on chat: connections that must be refused, and rooms of others."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any

import pytest

from broker.chat.limits import REQUESTS_MAX
from broker.infrastructure.runtime.settings import ServerSettings
from broker.tokens.issuer import TokenClaims, TokenIssuer
from broker.tokens.keys import SigningKeyFile
from broker.tokens.settings import TokenSettings
from tests.support.app_admin import RED, TOKEN, Admin
from tests.support.builders import RunningBroker, StartBroker
from tests.support.chat import ChatClient, admitting, chatting, refusal
from tests.support.clients import PhoneClient, Refused
from tests.support.logins import token_of


@pytest.fixture
async def chat(start_broker: StartBroker) -> RunningBroker:
    return await start_broker(chat_rooms="open", admin_token=TOKEN)


@pytest.mark.parametrize(
    ("auth", "error"),
    [
        ({}, "invalid_request"),
        ({"token": 7}, "invalid_request"),
        ({"id": "a" * 22}, "invalid_request"),
        ({"token": "guess"}, "invalid_token"),
        ({"id": "a" * 22, "skey": "b" * 43}, "invalid_session"),
        ({"resume": "c" * 43}, "invalid_grant"),
        ({"subject": "pretend:alice", "app": "default"}, "invalid_request"),
    ],
)
async def test_connect_without_valid_proof_is_refused(
    chat: RunningBroker, auth: object, error: str
) -> None:
    assert await refusal(chat.url, auth) == error


def token_issued(broker: RunningBroker, ago: float, **changes: Any) -> str:
    """Return a token that the broker signed some seconds ago."""
    settings = broker.settings
    now = time.time() - ago
    issuer = TokenIssuer(
        file=SigningKeyFile(settings[TokenSettings].key_file),
        algorithm=settings[TokenSettings].token_algorithm,
        issuer=settings[ServerSettings].public_url,
        lifetime=600,
        host_clock=lambda: now,
    )
    claims = TokenClaims(
        id="t1",
        subject="pretend:alice",
        client_id="default",
        issued_at=int(now),
        authenticated_at=int(now),
        auth_methods=("swk",),
        provider="pretend",
    )
    return issuer.issue(claims._replace(**changes)).access_token


@pytest.mark.parametrize(
    ("ago", "changes"),
    [
        (601.0, {}),
        (0.0, {"client_id": "other"}),
        (0.0, {"subject": None}),
        (0.0, {"incarnation": "0" * 16}),
    ],
    ids=["expired", "unknown app", "no subject", "removed app"],
)
async def test_token_that_names_no_chat_is_refused(
    chat: RunningBroker, ago: float, changes: dict[str, Any]
) -> None:
    token = token_issued(chat, ago, **changes)

    assert await refusal(chat.url, {"token": token}) in ("invalid_token", "invalid_client")


async def test_token_of_another_app_is_refused(chat: RunningBroker) -> None:
    token = await token_of(chat)

    assert await refusal(chat.url, {"token": token, "app": "other"}) == "invalid_token"


async def test_guessed_resume_counts_as_failed_attempt(start_broker: StartBroker) -> None:
    broker = await start_broker(chat_rooms="open", misses_per_minute=2)

    errors = [await refusal(broker.url, {"resume": "c" * 43}) for _ in range(3)]

    assert errors == ["invalid_grant", "invalid_grant", "rate_limited"]


async def test_resume_ends_with_the_session_of_the_phone(chat: RunningBroker) -> None:
    client = ChatClient()
    async with PhoneClient(chat.url) as phone:
        await client.connect(chat.url, phone.session)
        await phone.delete("session")
    await client.close()

    assert await refusal(chat.url, {"resume": client.ready["resume"]}) == "invalid_grant"


async def test_chat_is_refused_without_rooms(start_broker: StartBroker) -> None:
    broker = await start_broker()
    async with PhoneClient(broker.url) as phone:
        assert await refusal(broker.url, phone.session) == "access_denied"


async def test_page_of_another_site_is_refused(chat: RunningBroker) -> None:
    """The Origin of another app passes the handshake, and not the CONNECT."""
    async with chatting(chat.url) as client, Admin(chat.admin).http as http:
        await http.post("/apps", json=RED)
        proofs = ({"token": await token_of(chat)}, {"resume": client.ready["resume"]})

        for proof in proofs:
            with pytest.raises(Refused) as refused:
                await ChatClient("https://red.example").connect(chat.url, proof)
            assert refused.value.data["error"] == "invalid_client"


async def test_rooms_of_apps_with_one_name_are_separate(chat: RunningBroker) -> None:
    async with Admin(chat.admin).http as http:
        await http.post("/apps", json=RED | {"rooms": "open"})
    async with chatting(chat.url) as alice, chatting(chat.url, "bob", app="red") as bob:
        await alice.join()
        await bob.join()
        await alice.say("secret")
        await alice.ask("say", {"to": "pretend:bob", "id": "1", "text": "secret"})
        assert await alice.texts(2) == ["secret", "secret"]

        joined = await bob.join()

        assert joined["messages"] == []
        assert [one["subject"] for one in joined["members"]] == ["pretend:bob"]
        assert (await bob.ask("conversations"))["conversations"] == []
        assert not bob.arrived("chat-message")


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (403, {}, "access_denied"),
        (404, {}, "unknown_room"),
        (200, {"may": "say"}, "temporarily_unavailable"),
        (200, {"may": ["rule"]}, "temporarily_unavailable"),
        (200, [], "temporarily_unavailable"),
        (302, {}, "temporarily_unavailable"),
        (500, {}, "temporarily_unavailable"),
    ],
)
async def test_join_without_admission_is_refused(
    start_broker: StartBroker, status: int, body: object, error: str
) -> None:
    async with admitting(status, body) as (_, settings):
        broker = await start_broker(**settings)
        async with chatting(broker.url) as alice:
            assert (await alice.join())["error"] == error
            assert (await alice.say("hello"))["error"] == "access_denied"
            direct = await alice.ask("say", {"to": "pretend:bob", "id": "1", "text": "hello"})
            assert direct["error"] == error


async def test_site_admits_to_read_and_to_moderate(start_broker: StartBroker) -> None:
    async with admitting(200, {"may": ["moderate"]}) as (site, settings):
        broker = await start_broker(**settings)
        async with chatting(broker.url) as alice:
            joined = await alice.join()
            await alice.join()

            assert joined["may"] == ["moderate"]
            assert (await alice.say("hello"))["error"] == "access_denied"
    [(_, question)] = site.questions
    assert question["type"] == "room.admit"
    person = {"subject": "pretend:alice", "openid": "alice"}
    assert question["data"] == {"app": "default", "room": "lounge", **person}


async def test_flooding_member_does_not_limit_others(chat: RunningBroker) -> None:
    async with chatting(chat.url, "eve") as eve, chatting(chat.url, "bob") as bob:
        await bob.join()
        await eve.join()
        answers = [await eve.say(str(number)) for number in range(40)]

        assert {one.get("error") for one in answers} == {None, "rate_limited"}
        assert "error" not in await bob.say("calm")


async def test_flood_of_joins_is_limited_over_all_connections(chat: RunningBroker) -> None:
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(chatting(chat.url, "eve")) for _ in "12"]
        bob = await stack.enter_async_context(chatting(chat.url, "bob"))

        answers = [await connections[n % 2].join() for n in range(REQUESTS_MAX + 1)]

        assert [one.get("error") for one in answers] == [None] * REQUESTS_MAX + ["rate_limited"]
        assert (await connections[0].ask("conversations"))["error"] == "rate_limited"
        assert "error" not in await connections[0].say("hello")
        assert "error" not in await bob.join()


async def test_flood_of_typing_reaches_members_once(chat: RunningBroker) -> None:
    async with chatting(chat.url, "eve") as eve, chatting(chat.url, "bob") as bob:
        await eve.join()
        await bob.join()

        for _ in range(10):
            await eve.ask("typing", {"room": "lounge"})
        await eve.say("done")

        await bob.push("chat-message")
        assert len(bob.arrived("chat-typing")) == 1


async def test_large_frame_closes_its_sender_only(chat: RunningBroker) -> None:
    async with chatting(chat.url, "eve") as eve, chatting(chat.url, "bob") as bob:
        await bob.join()
        await eve.join()

        flood = asyncio.create_task(eve.say("x" * 70_000))

        await eve.push("disconnect")
        assert (await bob.push("chat-left"))["subject"] == "pretend:eve"
        assert "error" not in await bob.say("calm")
        flood.cancel()
        await asyncio.wait([flood])
