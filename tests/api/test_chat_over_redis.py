"""Tests of chat at two instances over Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.builders import RunningBroker, StartBroker
from tests.support.chat import ChatClient, chatting
from tests.support.chat_members import ChatMember, check_sequence, staying
from tests.support.proxy import Proxy, proxying
from tests.support.servers.redis import KEPT, RedisServer, redis_program, running
from tests.support.waiting import eventually

ALICE, BOB, MOD = "pretend:alice", "pretend:bob", "pretend:mod"


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with running(redis_program(), *KEPT) as server:
        yield server


@pytest.fixture
async def link(redis: RedisServer) -> AsyncIterator[Proxy]:
    """The network link from the first instance to Redis."""
    async with proxying() as proxy:
        proxy.lead_to(redis.port)
        yield proxy


class Pair(NamedTuple):
    one: RunningBroker
    two: RunningBroker


@pytest.fixture
async def brokers(
    link: Proxy, start_broker: StartBroker, redis: RedisServer, tmp_path: Path
) -> Pair:
    shared = {
        "state_url": redis.url,
        "key_file": tmp_path / "keys.json",
        "chat_rooms": "open",
        "chat_moderators": MOD,
    }
    linked = shared | {"state_url": f"redis://127.0.0.1:{link.port}"}
    return Pair(await start_broker(**linked), await start_broker(**shared))


@pytest.fixture
async def alice(brokers: Pair) -> AsyncIterator[ChatClient]:
    async with chatting(brokers.one.url, "alice") as client:
        yield client


@pytest.fixture
async def bob(brokers: Pair) -> AsyncIterator[ChatClient]:
    async with chatting(brokers.two.url, "bob") as client:
        yield client


async def test_messages_have_one_order_at_both_instances(
    alice: ChatClient, bob: ChatClient
) -> None:
    await alice.join()
    await bob.join()

    for number in range(5):
        await alice.say(f"a{number}")
        await bob.say(f"b{number}")

    assert await alice.texts(10) == await bob.texts(10)


async def test_chat_resumes_at_another_instance(
    brokers: Pair, alice: ChatClient, bob: ChatClient
) -> None:
    await bob.join()
    joined = await alice.join()
    await alice.close()
    await bob.say("missed")

    again = await ChatClient().connect(brokers.two.url, {"resume": alice.ready["resume"]})
    answer = await again.join(epoch=joined["epoch"], offset=joined["offset"])

    assert answer["recovered"]
    assert [one["text"] for one in answer["messages"]] == ["missed"]
    await again.close()


async def test_signals_reach_the_other_instance(alice: ChatClient, bob: ChatClient) -> None:
    await alice.join()
    await bob.join()
    assert (await alice.push("chat-joined"))["subject"] == BOB

    await bob.say("hello")
    await alice.push("chat-message")
    await alice.ask("typing", {"room": "lounge"})
    await alice.ask("seen", {"room": "lounge", "offset": 1})
    await alice.ask("leave", {"room": "lounge"})

    assert (await bob.push("chat-typing"))["subject"] == ALICE
    assert (await bob.push("chat-seen"))["offset"] == 1
    assert (await bob.push("chat-left"))["subject"] == ALICE


async def test_direct_message_reaches_the_other_instance(
    alice: ChatClient, bob: ChatClient
) -> None:
    place = await alice.ask("say", {"to": BOB, "id": "1", "text": "psst"})

    assert (await bob.push("chat-message"))["room"] == place["room"]
    await bob.ask("say", {"room": place["room"], "id": "1", "text": "yes?"})
    assert await alice.texts(2) == ["psst", "yes?"]


async def test_kick_applies_at_the_other_instance(brokers: Pair, alice: ChatClient) -> None:
    await alice.join()
    async with chatting(brokers.two.url, "mod") as mod:
        await mod.join()

        await mod.ask("kick", {"room": "lounge", "subject": ALICE, "seconds": 60})

        assert (await alice.push("chat-closed"))["reason"] == "kicked"
        async with chatting(brokers.two.url, "alice") as second:
            assert (await second.join())["error"] == "access_denied"


async def test_lost_history_is_reported_by_a_new_epoch(
    redis: RedisServer, alice: ChatClient, bob: ChatClient
) -> None:
    before = await alice.join()
    await bob.join()
    await bob.say("old")
    await alice.push("chat-message")
    with redis.client() as client:  # without the sessions, whose end closes the connections too
        client.delete(*client.scan_iter("scanlogin:{*}:room*"))

    await bob.say("new")

    assert (await alice.push("chat-closed"))["reason"] == "lost"
    after = await alice.join(epoch=before["epoch"], offset=1)
    assert not after["recovered"]
    assert after["epoch"] != before["epoch"]
    assert "old" not in [one["text"] for one in after["messages"]]


# Faults; tests/chaos/test_chat.py has the slow ones


@pytest.fixture
async def members(brokers: Pair) -> AsyncIterator[list[ChatMember]]:
    """One person at each instance. The end checks what they have received."""
    members = [
        ChatMember("alice", lambda: [brokers.one.url]),
        ChatMember("bob", lambda: [brokers.two.url]),
    ]
    async with staying(members):
        for one in members:
            await one.say(f"{one.name} before")
        yield members
        for one in members:
            await one.say(f"{one.name} after")
        await eventually(lambda: {one.offset for one in members} == {6})
    check_sequence(members)


async def test_cut_link_to_redis_loses_no_message(members: list[ChatMember], link: Proxy) -> None:
    alice, bob = members
    link.cut()
    late = asyncio.create_task(alice.say("alice meanwhile"))
    await bob.say("bob meanwhile")

    link.restore()

    await late


async def test_restarted_redis_loses_no_message(
    members: list[ChatMember], redis: RedisServer
) -> None:
    redis.kill()
    late = [asyncio.create_task(one.say(f"{one.name} meanwhile")) for one in members]

    redis.start()

    await asyncio.gather(*late)
