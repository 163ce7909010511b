"""Processes that use the same grants at the same time."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from typing import Any, NamedTuple

from broker.oidc.model import AuthorizationCode, Family, SignIn
from broker.state import StateBackend, open_state
from tests.support.waiting import opened

PARALLEL = 50
"""Records that one process uses at the same time."""

IDLE, GRACE = 100.0, 10.0

START_TIMEOUT = 60.0

Work = Callable[[StateBackend, Any], Awaitable[object]]


class CodeRecord(NamedTuple):
    """A code, with the shard and the hash under which the state keeps it, and its family."""

    shard: str
    code_hash: bytes
    code: AuthorizationCode
    family: Family


class Rotation(NamedTuple):
    """Parallel swaps of one family."""

    before: Family
    after: Sequence[Family]


class SignInEnd(NamedTuple):
    """A session that one process uses and another process ends."""

    sign_in: SignIn
    code: CodeRecord
    family: Family
    expires_at: float


async def exchange(store: StateBackend, record: CodeRecord) -> bool:
    """Return whether the code gave a family."""
    return await store.grants.save(record.family, record.code_hash)


async def rotate(store: StateBackend, rotation: Rotation) -> list[Family]:
    """Return the families that each of the swaps returned."""
    swaps = (
        store.grants.swap(rotation.before, after, idle=IDLE, grace=GRACE)
        for after in rotation.after
    )
    return [state.family for state in await asyncio.gather(*swaps) if state is not None]


async def use(store: StateBackend, race: SignInEnd) -> None:
    """Save the session, use its code and swap its family, as often as the state allows."""
    sign_ins, grants = store.sign_ins, store.grants
    await asyncio.gather(
        sign_ins.save(race.sign_in, race.expires_at),
        sign_ins.touch(race.sign_in, race.expires_at),
        grants.save(race.code.family, race.code.code_hash),
        grants.save(race.family),
        grants.swap(race.family, replace(race.family, n=1), idle=IDLE, grace=GRACE),
    )


async def end(store: StateBackend, race: SignInEnd) -> None:
    """End the session and then its families, as the service does."""
    subject = race.sign_in.subject
    await store.sign_ins.end(subject, race.sign_in.sid)
    for state in await store.grants.of_subject(subject):
        if state.family.grant.sid == race.sign_in.sid:
            await store.grants.drop(state.family.grant.family)


def raced(url: str, *parts: tuple[Work, Sequence[object]]) -> list[list[Any]]:
    """Do each part in its own process, and return the results in the order of the parts.

    A part is a function and the records that it is called with.
    """
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(len(parts))
    pipes = [context.Pipe(duplex=False) for _ in parts]
    processes = [
        context.Process(target=_run, args=(url, work, records, barrier, sender))
        for (work, records), (_, sender) in zip(parts, pipes, strict=True)
    ]
    for process in processes:
        process.start()
    try:
        return [_received(receiver) for receiver, _ in pipes]
    finally:
        for process in processes:
            process.kill()
            process.join()


def _received(receiver: Connection) -> list[Any]:
    assert receiver.poll(START_TIMEOUT), "no result of a process"
    results: list[Any] = receiver.recv()
    return results


def _run(
    url: str, work: Work, records: Sequence[object], barrier: Barrier, sender: Connection
) -> None:
    sender.send(asyncio.run(_work(url, work, records, barrier)))


async def _work(url: str, work: Work, records: Sequence[object], barrier: Barrier) -> list[object]:
    store = open_state(url)
    await opened(store)
    limit = asyncio.Semaphore(PARALLEL)

    async def one(record: object) -> object:
        async with limit:
            return await work(store, record)

    barrier.wait(START_TIMEOUT)
    try:
        return await asyncio.gather(*map(one, records))
    finally:
        await store.close()
