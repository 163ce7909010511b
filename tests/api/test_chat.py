"""Tests of chat at one instance."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.support.builders import RunningBroker, StartBroker
from tests.support.chat import ChatClient, chatting
from tests.support.clients import NodeBrowser, Payload, Refused
from tests.support.logins import token_of
from tests.support.waiting import eventually

ALICE, BOB, MOD = "pretend:alice", "pretend:bob", "pretend:mod"


@pytest.fixture
async def chat(start_broker: StartBroker) -> RunningBroker:
    return await start_broker(chat_rooms="open", chat_moderators=MOD)


@pytest.fixture
async def alice(chat: RunningBroker) -> AsyncIterator[ChatClient]:
    async with chatting(chat.url, "alice", nickname="Al") as client:
        yield client


@pytest.fixture
async def bob(chat: RunningBroker) -> AsyncIterator[ChatClient]:
    async with chatting(chat.url, "bob") as client:
        yield client


@pytest.fixture
async def mod(chat: RunningBroker) -> AsyncIterator[ChatClient]:
    async with chatting(chat.url, "mod") as client:
        await client.join()
        yield client


def position_of(joined: Payload) -> Payload:
    return {"epoch": joined["epoch"], "offset": joined["offset"]}


async def test_message_reaches_all_members_in_order(alice: ChatClient, bob: ChatClient) -> None:
    await alice.join()
    await bob.join()

    for number in range(5):
        await alice.say(f"hello {number}")

    assert await alice.texts(5) == await bob.texts(5) == [f"hello {n}" for n in range(5)]


async def test_message_names_its_authenticated_sender(alice: ChatClient, bob: ChatClient) -> None:
    await alice.join()
    await bob.join()

    forged: Payload = {"from": {"subject": BOB}, "subject": BOB, "sender": BOB}
    place = await alice.say("hello", data={"n": [1]}, **forged)

    assert await bob.push("chat-message") == {
        "room": "lounge",
        "offset": place["offset"],
        "id": "m1",
        "from": {"subject": ALICE, "name": None, "nickname": "Al"},
        "at": place["at"],
        "text": "hello",
        "data": {"n": [1]},
    }


async def test_join_returns_history_members_and_rights(alice: ChatClient, bob: ChatClient) -> None:
    await alice.join()
    await alice.say("first")

    joined = await bob.join()

    assert [one["text"] for one in joined["messages"]] == ["first"]
    assert (joined["offset"], joined["recovered"], joined["online"]) == (1, False, 2)
    assert {one["subject"] for one in joined["members"]} == {ALICE, BOB}
    assert joined["may"] == ["say"]


async def test_repeated_message_id_gets_the_same_place(alice: ChatClient) -> None:
    await alice.join()

    first = await alice.say("hello", id="same")
    second = await alice.say("hello again", id="same")

    assert first == second
    assert await alice.texts(1) == ["hello"]
    assert (await alice.say("later"))["offset"] == 2


async def test_history_pages_back_from_an_offset(alice: ChatClient) -> None:
    await alice.join()
    for number in range(4):
        await alice.say(str(number))

    page = await alice.ask("history", {"room": "lounge", "before": 4, "limit": 2})

    assert [one["text"] for one in page["messages"]] == ["1", "2"]
    assert page["more"]


async def test_resumed_connection_recovers_missed_messages(
    chat: RunningBroker, alice: ChatClient, bob: ChatClient
) -> None:
    await bob.join()
    before = position_of(await alice.join())
    await alice.close()
    await bob.say("missed")

    again = await ChatClient().connect(chat.url, {"resume": alice.ready["resume"]})
    joined = await again.join(**before)

    assert joined["recovered"]
    assert [one["text"] for one in joined["messages"]] == ["missed"]
    await bob.say("next")
    assert await again.texts(1) == ["next"]
    await again.close()


@pytest.mark.parametrize(
    "position", [{"epoch": "other", "offset": 1}, {"epoch": "same", "offset": 9}]
)
async def test_unknown_position_is_not_recovered(alice: ChatClient, position: Payload) -> None:
    await alice.join()
    await alice.say("hello")
    epoch = (await alice.join())["epoch"]

    joined = await alice.join(**position | ({"epoch": epoch} if position["offset"] == 9 else {}))

    assert not joined["recovered"]
    assert [one["text"] for one in joined["messages"]] == ["hello"]


async def test_official_client_recovers_after_a_lost_connection(
    chat: RunningBroker, bob: ChatClient
) -> None:
    await bob.join()
    token = await token_of(chat)
    official = await ChatClient(browser=NodeBrowser({})).connect(chat.url, {"token": token})
    joined = await official.join()

    await official._browser.cut()
    await bob.say("missed")
    await official.push("chat-ready")
    again = await official.join(**position_of(joined))

    assert again["recovered"]
    assert [one["text"] for one in again["messages"]] == ["missed"]
    await bob.say("next")
    assert await official.texts(1) == ["next"]
    await official.close()


async def test_token_of_a_login_opens_a_chat(chat: RunningBroker) -> None:
    client = await ChatClient().connect(chat.url, {"token": await token_of(chat)})

    assert client.ready["subject"] == ALICE
    assert len(client.ready["resume"]) == 43
    assert client.ready["expires_in"] == 86_400
    await client.close()


async def test_members_see_joins_and_leaves(alice: ChatClient, bob: ChatClient) -> None:
    await alice.join()

    await bob.join()
    assert await alice.push("chat-joined") == {"room": "lounge", "subject": BOB}

    await bob.ask("leave", {"room": "lounge"})
    assert await alice.push("chat-left") == {"room": "lounge", "subject": BOB}


async def test_member_is_online_until_last_connection_closes(
    chat: RunningBroker, alice: ChatClient, bob: ChatClient
) -> None:
    await alice.join()
    await bob.join()
    async with chatting(chat.url, "bob") as second:
        await second.join()

    assert not alice.arrived("chat-left")
    await bob.close()
    assert (await alice.push("chat-left"))["subject"] == BOB


async def test_typing_and_seen_reach_other_members(alice: ChatClient, bob: ChatClient) -> None:
    await alice.join()
    await bob.join()
    await alice.push("chat-joined")
    await alice.say("hello")

    await bob.ask("typing", {"room": "lounge", "on": True})
    await bob.ask("seen", {"room": "lounge", "offset": 1})

    assert await alice.push("chat-typing") == {"room": "lounge", "subject": BOB, "on": True}
    assert await alice.push("chat-seen") == {"room": "lounge", "subject": BOB, "offset": 1}
    assert not bob.arrived("chat-typing")


async def test_deleted_message_leaves_room_and_history(alice: ChatClient, bob: ChatClient) -> None:
    await alice.join()
    await bob.join()
    await alice.say("regret")

    answer = await alice.ask("delete", {"room": "lounge", "offset": 1})

    assert answer == {"room": "lounge", "offset": 1, "entry": 2}
    expected = {"offset": 1, "by": ALICE, "entry": 2}
    assert await bob.push("chat-deleted") == {"room": "lounge", **expected}
    page = await bob.ask("history", {"room": "lounge"})
    assert page["messages"] == [{"type": "deleted", **expected}]


async def test_message_of_another_person_cannot_be_deleted(
    alice: ChatClient, bob: ChatClient
) -> None:
    await alice.join()
    await bob.join()
    await alice.say("mine")

    answer = await bob.ask("delete", {"room": "lounge", "offset": 1})

    assert answer["error"] == "access_denied"


async def test_moderator_may_delete_every_message(alice: ChatClient, mod: ChatClient) -> None:
    await alice.join()
    await alice.say("rude")

    assert "error" not in await mod.ask("delete", {"room": "lounge", "offset": 1})


async def test_muted_person_reads_and_cannot_say(alice: ChatClient, mod: ChatClient) -> None:
    await alice.join()

    await mod.ask("mute", {"room": "lounge", "subject": ALICE, "seconds": 600})

    assert (await alice.push("chat-muted"))["room"] == "lounge"
    refused = await alice.say("hello")
    assert refused["error"] == "access_denied"
    assert 0 < refused["retry_after"] <= 600
    await mod.say("quiet")
    assert await alice.texts(1) == ["quiet"]


async def test_mute_applies_to_a_second_connection(
    chat: RunningBroker, alice: ChatClient, mod: ChatClient
) -> None:
    await alice.join()
    await mod.ask("mute", {"room": "lounge", "subject": ALICE, "seconds": 600})

    async with chatting(chat.url, "alice", nickname="Other") as second:
        await second.join()

        assert (await second.say("hello"))["error"] == "access_denied"


async def test_lifted_mute_lets_the_person_say(alice: ChatClient, mod: ChatClient) -> None:
    await alice.join()
    await mod.ask("mute", {"room": "lounge", "subject": ALICE, "seconds": 600})

    await mod.ask("mute", {"room": "lounge", "subject": ALICE, "seconds": 0})

    assert "error" not in await alice.say("hello")


async def test_kicked_person_leaves_and_cannot_return(alice: ChatClient, mod: ChatClient) -> None:
    await alice.join()

    await mod.ask("kick", {"room": "lounge", "subject": ALICE, "seconds": 600})

    assert await alice.push("chat-closed") == {"room": "lounge", "reason": "kicked"}
    assert (await alice.say("hello"))["error"] == "access_denied"
    refused = await alice.join()
    assert refused["error"] == "access_denied"
    assert refused["retry_after"] > 0
    await mod.say("gone")
    assert await mod.texts(1) == ["gone"]
    assert not alice.arrived("chat-message")


@pytest.mark.parametrize("act", ["mute", "kick"])
async def test_member_cannot_moderate(alice: ChatClient, bob: ChatClient, act: str) -> None:
    await alice.join()
    await bob.join()

    answer = await bob.ask(act, {"room": "lounge", "subject": ALICE, "seconds": 60})

    assert answer["error"] == "access_denied"


async def test_direct_message_reaches_person_without_join(
    alice: ChatClient, bob: ChatClient
) -> None:
    place = await alice.ask("say", {"to": BOB, "id": "1", "text": "psst"})

    for client in (alice, bob):
        message = await client.push("chat-message")
        assert (message["room"], message["text"]) == (place["room"], "psst")
        assert message["from"]["subject"] == ALICE


async def test_direct_messages_are_listed_with_seen_offset(
    alice: ChatClient, bob: ChatClient
) -> None:
    place = await alice.ask("say", {"to": BOB, "id": "1", "text": "psst"})
    await bob.ask("seen", {"room": place["room"], "offset": 1})

    [conversation] = (await bob.ask("conversations"))["conversations"]

    assert conversation["with"] == {"subject": ALICE, "name": None}
    assert (conversation["room"], conversation["offset"]) == (place["room"], 1)
    assert conversation["seen"] == 1


async def test_joined_pair_continues_after_its_history(alice: ChatClient, bob: ChatClient) -> None:
    await alice.ask("say", {"to": BOB, "id": "1", "text": "one"})
    assert await bob.texts(1) == ["one"]

    joined = await bob.ask("join", {"to": ALICE})
    await alice.ask("say", {"to": BOB, "id": "2", "text": "two"})

    assert [one["text"] for one in joined["messages"]] == ["one"]
    assert {one["subject"]: one["online"] for one in joined["members"]} == {ALICE: True, BOB: True}
    assert await bob.texts(1) == ["two"]


async def test_third_person_cannot_enter_a_pair(
    chat: RunningBroker, alice: ChatClient, bob: ChatClient
) -> None:
    place = await alice.ask("say", {"to": BOB, "id": "1", "text": "psst"})

    async with chatting(chat.url, "eve") as eve:
        for event, fields in PAIR_REQUESTS.items():
            answer = await eve.ask(event, {"room": place["room"], **fields})
            assert (event, answer["error"]) == (event, "access_denied")
        assert (await eve.ask("conversations"))["conversations"] == []
        assert not eve.arrived("chat-message")


PAIR_REQUESTS: dict[str, dict[str, Any]] = {
    "join": {},
    "say": {"id": "1", "text": "hello"},
    "history": {},
    "delete": {"offset": 1},
    "seen": {"offset": 1},
    "typing": {"on": True},
    "mute": {"subject": ALICE, "seconds": 60},
}


@pytest.mark.parametrize("event", ["say", "history", "delete", "seen", "typing"])
async def test_room_is_closed_before_join(alice: ChatClient, bob: ChatClient, event: str) -> None:
    await alice.join()
    await alice.say("secret")

    answer = await bob.ask(event, {"room": "lounge", **PAIR_REQUESTS[event]})

    assert answer["error"] == "access_denied"


async def test_says_over_the_limit_are_refused(alice: ChatClient) -> None:
    await alice.join()

    answers = [await alice.say(str(number)) for number in range(21)]

    assert [one.get("error") for one in answers] == [None] * 20 + ["rate_limited"]
    assert answers[-1]["retry_after"] > 0


async def test_history_of_large_messages_fits_the_connection(
    start_broker: StartBroker,
) -> None:
    broker = await start_broker(chat_rooms="open", chat_says_per_second=1_000)
    async with chatting(broker.url) as alice:
        await alice.join()
        for _ in range(40):
            assert "error" not in await alice.say("张" * 4_000, data="x" * 8_000)

        joined = await alice.join()
        page = await alice.ask("history", {"room": "lounge"})

        assert joined["messages"] == page["messages"]
        assert page["messages"][-1]["offset"] == 40
        assert page["more"]


async def test_slow_reader_is_closed_and_recovers_the_room(start_broker: StartBroker) -> None:
    broker = await start_broker(chat_rooms="open", chat_says_per_second=1_000)
    async with chatting(broker.url) as alice, chatting(broker.url, "bob") as bob:
        before = position_of(await alice.join())
        await bob.join()
        alice.stop_reading()

        async def is_closed() -> bool:
            answers = await asyncio.gather(*(bob.say("x" * 4_000, data="x" * 8_000) for _ in "123"))
            return bool(bob.arrived("chat-left")) and not any("error" in one for one in answers)

        await eventually(is_closed)

        again = await ChatClient().connect(broker.url, {"resume": alice.ready["resume"]})
        joined = await again.join(**before)
        offsets = [one["offset"] for one in joined["messages"]]
        assert (joined["recovered"], offsets[-1]) == (False, joined["offset"])
        assert offsets == list(range(offsets[0], offsets[-1] + 1))
        await again.close()


async def test_eleventh_connection_of_a_person_is_refused(chat: RunningBroker) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(10):
            await stack.enter_async_context(chatting(chat.url))

        with pytest.raises(Refused) as refused:
            await stack.enter_async_context(chatting(chat.url))

    assert refused.value.data["error"] == "rate_limited"


async def test_fiftyfirst_room_of_a_connection_is_refused(alice: ChatClient) -> None:
    answers = [await alice.join(f"room-{number}") for number in range(51)]

    assert [one.get("error") for one in answers] == [None] * 50 + ["rate_limited"]


NESTED: Any = "x"
for _ in range(100):
    NESTED = [NESTED]


@pytest.mark.parametrize(
    "fields",
    [
        {"id": "1"},
        {"id": "1", "text": ""},
        {"id": "1", "text": "x" * 4_001},
        {"id": "1", "text": 7},
        {"id": "", "text": "x"},
        {"id": "1" * 65, "text": "x"},
        {"text": "x"},
        {"id": "1", "data": "x" * 8_192},
        {"id": "1", "data": NESTED},
        {"id": "1", "text": "x", "to": "pretend:bob"},
        {"id": "1", "text": "x", "room": "a b"},
        {"id": "1", "text": "x", "room": "lounge\n"},
        {"id": "1", "text": "x", "room": "~" + "A" * 43},
        {"id": "1", "text": "x", "room": None},
    ],
)
async def test_malformed_message_is_refused(alice: ChatClient, fields: Payload) -> None:
    await alice.join()

    answer = await alice.ask("say", {"room": "lounge", **fields})

    assert answer["error"] in ("invalid_request", "access_denied")
    assert "error" not in await alice.say("still connected")


async def test_message_to_oneself_is_refused(alice: ChatClient) -> None:
    answer = await alice.ask("say", {"to": ALICE, "id": "1", "text": "hello"})

    assert answer["error"] == "invalid_request"


async def test_script_in_text_and_nickname_stays_text(chat: RunningBroker, bob: ChatClient) -> None:
    script = "<script>alert(1)</script>"
    await bob.join()
    async with chatting(chat.url, "alice", nickname=script + "\u202e" + "x" * 40) as alice:
        await alice.join()
        await alice.say(script)

    message = await bob.push("chat-message")
    assert message["text"] == script
    assert message["from"]["nickname"] == (script + "x" * 40)[:32]
