"""Chat over two broker processes and a Redis: members see every message once despite faults."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.chat import ChatClient, chatting
from tests.support.clients import Payload
from tests.support.environment import ROOT
from tests.support.servers.redis import RedisServer, redis_program, running
from tests.support.waiting import eventually


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with running(redis_program()) as server:
        yield server


class Instance(NamedTuple):
    url: str
    process: asyncio.subprocess.Process


@asynccontextmanager
async def started(redis: RedisServer, folder: Path, name: str) -> AsyncIterator[Instance]:
    settings = {
        "PORT": "0",
        "ADMIN_PORT": "0",
        "INSTANCE": name,
        "STATE_URL": redis.url,
        "KEY_FILE": f"{folder}/keys.json",
        "SEAL_FILE": f"{folder}/seal.json",
        "RECORDS_URL": f"sqlite+aiosqlite:///{folder}/records.db",
        "CHAT_ROOMS": "open",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "broker", "serve"),
        cwd=ROOT,
        env={**os.environ, **{f"SCAN_LOGIN_{key}": value for key, value in settings.items()}},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        ready = (await process.stdout.readline()).decode()
        yield Instance(ready.split(" ready on ")[1].split()[0], process)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


class Chat(NamedTuple):
    """Alice at the first instance, Bob at the second, in one room. place: of Alice."""

    one: Instance
    two: Instance
    alice: ChatClient
    bob: ChatClient
    place: Payload


@pytest.fixture
async def chat(redis: RedisServer, tmp_path: Path) -> AsyncIterator[Chat]:
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(started(redis, tmp_path, "one"))
        two = await stack.enter_async_context(started(redis, tmp_path, "two"))
        alice = await stack.enter_async_context(chatting(one.url, "alice"))
        bob = await stack.enter_async_context(chatting(two.url, "bob"))
        joined = await alice.join()
        await bob.join()
        yield Chat(one, two, alice, bob, {"epoch": joined["epoch"], "offset": joined["offset"]})


async def recovered(chat: Chat) -> list[str]:
    """Return the texts that Alice gets at the second instance."""
    client = await ChatClient().connect(chat.two.url, {"resume": chat.alice.ready["resume"]})
    answer = await client.join(**chat.place)
    await client.close()
    assert answer["recovered"]
    return [one["text"] for one in answer["messages"]]


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "drained"])
async def test_member_of_an_ended_instance_recovers(chat: Chat, end: signal.Signals) -> None:
    said = [(await chat.alice.say(f"a{number}"))["offset"] for number in range(3)]

    chat.one.process.send_signal(end)
    await chat.one.process.wait()
    await chat.bob.say("b0")

    assert await recovered(chat) == ["a0", "a1", "a2", "b0"]
    assert said == [1, 2, 3]


async def test_restart_of_an_empty_redis_is_reported(chat: Chat, redis: RedisServer) -> None:
    await chat.bob.say("old")
    await chat.alice.texts(1)
    redis.kill()
    redis.start()

    async def says() -> bool:
        return "error" not in await chat.bob.say("new")

    await eventually(says)

    assert (await chat.alice.push("chat-closed"))["reason"] == "lost"
    answer = await chat.alice.join(epoch=chat.place["epoch"], offset=1)
    assert not answer["recovered"]
    assert [one["text"] for one in answer["messages"]] == ["new"]


async def test_pause_of_redis_delays_messages_only(chat: Chat, redis: RedisServer) -> None:
    redis.pause()
    late = asyncio.create_task(chat.bob.say("late"))
    redis.resume()

    assert "error" not in await late
    assert await chat.alice.texts(1) == ["late"]
