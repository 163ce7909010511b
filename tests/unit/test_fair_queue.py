"""Tests of the fair queue: each key has a share of the calls, and waiting keys take turns."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from broker.infrastructure.fair_queue import FairQueue
from tests.support.loop_clock import LoopClock


class Calls:
    """Runs calls through a queue until a test ends them, and counts the running ones."""

    def __init__(self, queue: FairQueue) -> None:
        self.queue = queue
        self.running: Counter[str] = Counter()
        self.may_end = asyncio.Event()

    async def call(self, key: str) -> str:
        async with self.queue.turn(key):
            self.running[key] += 1
            await self.may_end.wait()
            self.running[key] -= 1
        return key

    async def start(self, *keys: str) -> list[asyncio.Task[str]]:
        tasks = [asyncio.create_task(self.call(key)) for key in keys]
        for _ in range(5):
            await asyncio.sleep(0)
        return tasks


async def test_key_has_its_share_while_others_continue() -> None:
    calls = Calls(FairQueue(share=2, total=3, wait=60))

    tasks = await calls.start(*["a"] * 100, "b")

    assert calls.running == {"a": 2, "b": 1}
    calls.may_end.set()
    assert Counter(await asyncio.gather(*tasks)) == {"a": 100, "b": 1}


async def test_waiting_keys_take_turns() -> None:
    calls = Calls(FairQueue(share=2, total=2, wait=60))
    order: list[str] = []

    tasks = await calls.start(*["a"] * 10, *["b"] * 3, "c")
    for task in tasks:
        task.add_done_callback(lambda done: order.append(done.result()))
    calls.may_end.set()
    await asyncio.gather(*tasks)

    assert order[:9] == list("aaabcabab")


async def test_call_without_a_turn_in_time_fails() -> None:
    calls = Calls(FairQueue(share=1, wait=0.01))
    first, second = await calls.start("a", "a")

    with pytest.raises(TimeoutError):
        await second
    calls.may_end.set()

    assert await first == "a"


async def test_turn_of_cancelled_call_passes_to_next() -> None:
    calls = Calls(FairQueue(share=1, total=1, wait=60))
    async with calls.queue.turn("a"):
        second, third = await calls.start("b", "c")
    second.cancel()  # this call has its turn but has not resumed
    calls.may_end.set()

    assert await third == "c"
    assert second.cancelled()
    assert len(calls.queue) == 0


async def test_turn_may_last_longer_than_the_wait(still_clock: LoopClock) -> None:
    queue = FairQueue(share=1, wait=10)
    async with queue.turn("a"):
        await still_clock.move(20)


async def test_cancelled_calls_free_their_turns() -> None:
    calls = Calls(FairQueue(share=1, total=1, wait=60))
    running, waiting = await calls.start("a", "a")

    for task in (running, waiting):
        task.cancel()
    await asyncio.gather(running, waiting, return_exceptions=True)
    calls.may_end.set()

    assert await calls.call("a") == "a"
    assert len(calls.queue) == 0


async def test_random_calls_and_cancellations_leave_nothing() -> None:
    queue, chance = FairQueue(share=2, total=3, wait=60), random.Random(7)
    running: Counter[int] = Counter()

    async def call(key: int) -> None:
        async with queue.turn(key):
            running[key] += 1
            assert running[key] <= 2
            assert running.total() <= 3
            for _ in range(chance.randrange(3)):
                await asyncio.sleep(0)
            running[key] -= 1

    tasks = [asyncio.create_task(call(chance.randrange(4))) for _ in range(300)]
    while not all(task.done() for task in tasks):
        chance.choice(tasks[::3]).cancel()
        await asyncio.sleep(0)

    assert all(task.cancelled() or task.exception() is None for task in tasks)
    assert len(queue) == 0
    async with queue.turn("a"), queue.turn("a"), queue.turn("b"):
        pass
