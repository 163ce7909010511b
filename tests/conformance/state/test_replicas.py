"""`SCAN_LOGIN_REPLICAS=1`: a change of a grant or a room counts once a replica holds it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from broker.errors import Unavailable
from broker.oidc.model import subject_shard
from broker.oidc.ports import Unusable
from broker.state import StateBackend, open_state
from broker.state.redis import replication
from tests.support.builders import Clock
from tests.support.grants import CODE_HASH, SUBJECT, a_code, a_family, a_grant, a_sign_in
from tests.support.rooms import KEEP, ROOM, a_message, say
from tests.support.servers.redis import RedisServer, redis_program, running
from tests.support.waiting import eventually, opened

SHARD = subject_shard(SUBJECT)


@pytest.fixture
def master() -> Iterator[RedisServer]:
    with running(redis_program()) as server:
        yield server


@pytest.fixture
async def store(master: RedisServer, clock: Clock) -> AsyncIterator[StateBackend]:
    store = open_state(master.url, clock, replicas=1)
    await opened(store)
    yield store
    await store.close()


@pytest.fixture
def replica(master: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisServer]:
    """A replica that may be slow, because the machine is busy."""
    monkeypatch.setattr(replication, "WAIT_MS", 30_000)
    options = ("--replicaof", "127.0.0.1", str(master.port), "--repl-diskless-sync-delay", "0")
    with running(redis_program(), *options) as server:
        yield server


async def has_replica(master: RedisServer) -> bool:
    with master.client() as client:
        return bool(client.execute_command("WAIT", 1, 100))


async def test_code_without_a_replica_is_not_exchanged(store: StateBackend, clock: Clock) -> None:
    sign_in = a_sign_in(clock)
    await store.sign_ins.save(sign_in, clock() + 1_000)
    grant = a_grant(sign_in)
    await store.grants.save_code(SHARD, CODE_HASH, a_code(clock, grant))

    with pytest.raises(Unavailable):
        await store.grants.save(a_family(clock, grant), CODE_HASH)

    assert (await store.grants.find_code(SHARD, CODE_HASH)).why is Unusable.USED


async def test_family_without_a_replica_is_not_used(store: StateBackend, clock: Clock) -> None:
    family = a_family(clock, a_grant(a_sign_in(clock)))

    with pytest.raises(Unavailable):
        await store.grants.save(family)
    with pytest.raises(Unavailable):
        await store.grants.swap(family, replace(family, n=1), idle=100, grace=10)
    with pytest.raises(Unavailable):
        await store.grants.drop(family.grant.family)


@pytest.mark.usefixtures("replica")
async def test_replicated_changes_of_grants_succeed(
    store: StateBackend, master: RedisServer, clock: Clock
) -> None:
    sign_in = a_sign_in(clock)
    family = a_family(clock, a_grant(sign_in))
    await store.sign_ins.save(sign_in, clock() + 1_000)
    await store.grants.save_code(SHARD, CODE_HASH, a_code(clock, family.grant))
    await eventually(lambda: has_replica(master))

    assert await store.grants.save(family, CODE_HASH)
    swapped = await store.grants.swap(family, replace(family, n=1), idle=100, grace=10)
    assert swapped is not None
    assert swapped.family.n == 1
    assert await store.grants.drop(family.grant.family) == swapped.family


async def test_message_without_a_replica_is_not_confirmed(
    store: StateBackend, clock: Clock
) -> None:
    message = a_message(clock, "1")

    for _ in "12":  # a repeat is not confirmed either
        with pytest.raises(Unavailable):
            await say(store, message)
    with pytest.raises(Unavailable):
        await store.chat.rooms.delete(ROOM, 1, by="alice", at=clock(), retention=KEEP)


@pytest.mark.usefixtures("replica")
async def test_replicated_messages_are_confirmed(
    store: StateBackend, master: RedisServer, clock: Clock
) -> None:
    await eventually(lambda: has_replica(master))

    assert (await say(store, a_message(clock, "1"))).offset == 1
    assert (await say(store, a_message(clock, "1"))).offset == 1
    deleted = await store.chat.rooms.delete(ROOM, 1, by="alice", at=clock(), retention=KEEP)
    assert deleted is not None
    assert deleted.offset == 2
