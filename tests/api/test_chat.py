"""Tests of chat at one instance."""

from __future__ import annotations

import pytest

from tests.support.builders import RunningBroker, StartBroker
from tests.support.chat import chatting


@pytest.fixture
async def chat(start_broker: StartBroker) -> RunningBroker:
    return await start_broker(chat_rooms="open", chat_moderators="pretend:mod")


async def test_message_reaches_all_members_in_order(chat: RunningBroker) -> None:
    async with chatting(chat.url, "alice") as alice, chatting(chat.url, "bob") as bob:
        await alice.join()
        await bob.join()

        for number in range(5):
            await alice.say(f"hello {number}")

        assert await alice.texts(5) == await bob.texts(5) == [f"hello {n}" for n in range(5)]
