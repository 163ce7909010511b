"""The ends of many Engine.IO sessions at once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from broker.infrastructure.transport.engineio.inbox import ENDS_PER_TURN, Inboxes, SessionClosed
from broker.infrastructure.transport.step_queue import StepQueue
from tests.support.waiting import eventually

MANY = 1_000
END = SessionClosed("transport close")

FAULTS: Mapping[str, BaseException] = {
    "failed": ValueError("a fault of the handler"),
    "cancelled": asyncio.CancelledError(),
}
"""Exceptions that the handler raises, by sid."""


class Server:
    """Inboxes whose handlers store the sids of the sessions that ended."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.failed: list[str] = []
        self.inboxes = Inboxes(
            sessions={},
            handlers={"disconnect": self.disconnect, "message": self.handle_message},
            steps=StepQueue(),
            on_failure=self.failed.append,
        )

    async def disconnect(self, sid: str, reason: str) -> None:
        if sid in FAULTS:
            raise FAULTS[sid]
        self.ended.append(sid)

    async def handle_message(self, sid: str, message: str | bytes) -> None:
        await asyncio.sleep(0)
        self.ended.append(f"{sid}: {message!s}")

    def end(self, count: int) -> None:
        for number in range(count):
            self.inboxes.add(str(number), END)


async def test_many_ends_share_one_task() -> None:
    server = Server()
    tasks = len(asyncio.all_tasks())

    server.end(MANY)

    assert len(asyncio.all_tasks()) == tasks + 1
    await eventually(lambda: len(server.inboxes) == 0)
    assert server.ended == [str(number) for number in range(MANY)]


async def test_many_ends_are_handled_in_turns() -> None:
    server = Server()

    server.end(MANY)
    await asyncio.sleep(0)

    assert len(server.ended) == ENDS_PER_TURN


async def test_end_follows_messages_of_its_session() -> None:
    server = Server()

    server.inboxes.add("slow", "hello")
    server.inboxes.add("slow", END)
    await eventually(lambda: len(server.inboxes) == 0)

    assert server.ended == ["slow: hello", "slow"]


@pytest.mark.parametrize("fault", FAULTS)
async def test_failing_end_does_not_stop_others(fault: str) -> None:
    server = Server()

    server.inboxes.add(fault, END)
    server.end(3)
    await eventually(lambda: len(server.inboxes) == 0)

    assert (server.failed, server.ended) == ([fault], ["0", "1", "2"])


async def test_close_waits_for_all_ends() -> None:
    server = Server()
    server.end(MANY)

    await server.inboxes.close(30)

    assert len(server.ended) == MANY
