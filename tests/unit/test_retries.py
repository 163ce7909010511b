"""Tests of the worker that makes deferred calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from broker.infrastructure.coordination import RETRY_TIMEOUT, DeferredCall
from broker.infrastructure.retries import RECEIVER_MAX, TAKEN_MAX, CallOutcome, RetryWorker
from broker.state.memory.retry_queue import MemoryRetryQueue
from tests.support.builders import Clock
from tests.support.waiting import eventually

KIND = "logout"
CALL = DeferredCall("call", KIND, "shop", "{}")
DELAYS = (1.0, 10.0)


class Receivers:
    """Answers attempts. The receiver `slow` never answers."""

    def __init__(self) -> None:
        self.attempts: list[DeferredCall] = []

    async def attempt(self, call: DeferredCall) -> CallOutcome:
        self.attempts.append(call)
        if call.receiver == "slow":
            await asyncio.Event().wait()
        return CallOutcome.DELIVERED

    def of(self, receiver: str) -> int:
        return sum(call.receiver == receiver for call in self.attempts)


@pytest.fixture
def queue(clock: Clock) -> MemoryRetryQueue:
    return MemoryRetryQueue(clock)


@pytest.fixture
def receivers() -> Receivers:
    return Receivers()


def worker_of(queue: MemoryRetryQueue, clock: Clock, receivers: Receivers) -> RetryWorker:
    worker = RetryWorker(queue=queue, clock=clock)
    worker.handle(KIND, receivers.attempt, DELAYS)
    return worker


@pytest.fixture
def worker(queue: MemoryRetryQueue, clock: Clock, receivers: Receivers) -> RetryWorker:
    return worker_of(queue, clock, receivers)


@asynccontextmanager
async def running(worker: RetryWorker, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    monkeypatch.setattr("broker.infrastructure.retries.POLL_INTERVAL", 0.01)
    monkeypatch.setattr("broker.infrastructure.retries.CLOSE_TIMEOUT", 0)
    task = asyncio.create_task(worker.run())
    yield
    task.cancel()
    await asyncio.wait([task])


async def take(queue: MemoryRetryQueue) -> list[DeferredCall]:
    return list(await queue.take_due([KIND, "unknown"], 10))


async def test_failed_call_is_due_after_its_delays(
    worker: RetryWorker, queue: MemoryRetryQueue, clock: Clock
) -> None:
    call = CALL
    await worker.put(call)

    for delay in DELAYS:
        await worker.record(call, CallOutcome.FAILED)
        clock.time += delay - 0.5
        assert await take(queue) == []
        clock.time += 0.5
        [call] = await take(queue)
    await worker.record(call, CallOutcome.FAILED)

    clock.time += RETRY_TIMEOUT
    assert await take(queue) == []


@pytest.mark.parametrize("outcome", [CallOutcome.DELIVERED, CallOutcome.REFUSED])
async def test_answered_call_is_not_repeated(
    worker: RetryWorker, queue: MemoryRetryQueue, clock: Clock, outcome: CallOutcome
) -> None:
    await worker.put(CALL)

    await worker.record(CALL, outcome)

    clock.time += RETRY_TIMEOUT
    assert await take(queue) == []


async def test_invalid_call_is_repeated_after_its_delay(
    worker: RetryWorker, queue: MemoryRetryQueue, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An instance of a newer version may have put it, and can make it."""

    tries: list[DeferredCall] = []

    async def attempt(call: DeferredCall) -> CallOutcome:
        tries.append(call)
        raise ValueError("unknown format")

    worker.handle(KIND, attempt, DELAYS)
    await worker.put(CALL)

    async with running(worker, monkeypatch):
        await eventually(lambda: tries)
    clock.time += DELAYS[0]
    assert [call.attempt for call in await take(queue)] == [2]


async def test_cancelled_call_is_not_made(worker: RetryWorker, queue: MemoryRetryQueue) -> None:
    await worker.put(CALL)

    await worker.cancel(CALL)

    assert await take(queue) == []


async def test_call_of_a_kind_without_handler_stays(
    worker: RetryWorker,
    queue: MemoryRetryQueue,
    receivers: Receivers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another process, or a newer version, handles it."""
    unknown = CALL._replace(kind="unknown")
    await worker.put(unknown)
    await worker.put(CALL)

    async with running(worker, monkeypatch):
        await eventually(lambda: receivers.attempts)

    assert receivers.attempts == [CALL]
    assert await take(queue) == [unknown]


async def test_slow_receiver_does_not_delay_others(
    queue: MemoryRetryQueue, receivers: Receivers, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.infrastructure.retries.TURN_TIMEOUT", 0.01)
    worker = worker_of(queue, clock, receivers)
    for number in range(2 * TAKEN_MAX):
        await worker.put(DeferredCall(f"slow-{number}", KIND, "slow", "{}"))
    clock.time += 1
    await worker.put(CALL)

    async with running(worker, monkeypatch):
        await eventually(lambda: receivers.of("shop"))

    assert receivers.of("slow") == RECEIVER_MAX
