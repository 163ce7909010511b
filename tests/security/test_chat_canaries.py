"""Chat over two broker processes and a Redis: no text is on the bus, in a log or a metric.

MONITOR records every command that Redis receives, also those of scripts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.support.chat import ChatClient, chatting
from tests.support.leaks import fetch, leaked, monitored, process
from tests.support.servers.redis import RedisServer, redis_program, running

TEXTS = ("canary-text", "canary-data", "canary-nickname", "canary-wrong")
BOB = "pretend:bob"


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with running(redis_program()) as server:
        yield server


async def talk(alice: ChatClient, bob: ChatClient) -> None:
    """Use every event, also with wrong fields."""
    await alice.join()
    await bob.join()
    await alice.say("canary-text", data={"canary-data": 1})
    await alice.ask("say", {"to": BOB, "id": "1", "text": "canary-text"})
    assert await bob.texts(2) == ["canary-text"] * 2
    for event in ("typing", "seen", "delete", "history", "conversations", "leave"):
        await alice.ask(event, {"room": "lounge", "offset": 1})
    await alice.ask("mute", {"room": "lounge", "subject": BOB, "seconds": 1})
    for wrong in ({"text": ["canary-wrong"]}, {"data": "canary-wrong" * 1_000}):
        await bob.ask("say", {"room": "lounge", "id": "w", **wrong})
    await bob.ask("canary-wrong", {})


async def test_texts_leave_no_trace_outside_the_state(redis: RedisServer, tmp_path: Path) -> None:
    shared = {"CHAT_ROOMS": "open"}
    async with (
        monitored(redis) as monitor,
        process("one", redis.url, tmp_path, **shared) as one,
        process("two", redis.url, tmp_path, **shared) as two,
        aiohttp.ClientSession() as http,
        chatting(one.url, "alice", nickname="canary-nickname") as alice,
        chatting(two.url, "bob") as bob,
    ):
        await talk(alice, bob)
        resumes = [client.ready["resume"] for client in (alice, bob)]
        metrics = [await fetch(http, f"{each.metrics_url}/metrics") for each in (one, two)]
    logs = [each.log.read_text() for each in (one, two)]

    assert "canary-text" in monitor.all()
    assert "room-news" in monitor.bus()
    assert leaked((*TEXTS, *resumes), monitor.bus()) == []
    assert leaked((*TEXTS, *resumes), "\n".join((*logs, *metrics))) == []
    assert leaked(resumes, monitor.all()) == []
    assert "scanlogin_chat_delivered_total" in "".join(metrics)
