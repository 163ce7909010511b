"""Several Redis servers: a master that dies under Sentinel, slots that move in a Cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from redis.crc import key_slot

from broker.infrastructure.sharding import SHARDS
from tests.chaos.load import Fault
from tests.chaos.world import Instance, World
from tests.chaos.world import running as brokers
from tests.support.servers.redis import (
    PLAIN,
    RedisServer,
    cluster,
    redis_program,
    running,
    sentinel_of,
)
from tests.support.waiting import eventually

pytestmark = [pytest.mark.chaos_long, pytest.mark.timeout(120)]

KNOWN_WITHIN = 20.0
"""Seconds until every sentinel knows the replicas: it asks the master every ten."""

FAILED_OVER_WITHIN = 20.0

BEHIND = 1.0
"""Seconds that replicas are without their master before it dies: what is written then is lost."""


class Watched(NamedTuple):
    """A master under three sentinels, with two replicas: one may die and one still holds."""

    master: RedisServer
    replicas: Sequence[RedisServer]
    sentinels: Sequence[RedisServer]

    @property
    def url(self) -> str:
        places = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{places}/mymaster"

    def is_known(self) -> bool:
        """Whether the sentinels could fail over: each knows the replicas and the others."""
        return all(
            len(ask(one, "SENTINEL REPLICAS", "mymaster")) == len(self.replicas)
            and len(ask(one, "SENTINEL SENTINELS", "mymaster")) == len(self.sentinels) - 1
            for one in self.sentinels
        )

    def leave_replicas_behind(self) -> None:
        """Cut the replicas off; the port that they are told to follow is a sentinel's."""
        for replica in self.replicas:
            ask(replica, "REPLICAOF", "127.0.0.1", self.sentinels[0].port)

    def has_failed_over(self) -> bool:
        return any(ask(replica, "ROLE")[0] == b"master" for replica in self.replicas)


def ask(server: RedisServer, command: str, *arguments: object) -> Any:
    with server.client() as client:
        return client.execute_command(command, *arguments)


@contextmanager
def watched() -> Iterator[Watched]:
    with ExitStack() as stack:
        master = stack.enter_context(running(redis_program(), *PLAIN))
        follow = ("--replicaof", "127.0.0.1", str(master.port), "--repl-diskless-sync-delay", "0")
        replicas = [
            stack.enter_context(running(redis_program(), *PLAIN, *follow)) for _ in range(2)
        ]
        sentinels = [stack.enter_context(sentinel_of(master, quorum=2)) for _ in range(3)]
        yield Watched(master, replicas, sentinels)


@asynccontextmanager
async def brokers_over(url: str, folder: Path, **variables: str) -> AsyncIterator[World]:
    instances = [
        Instance(f"broker-{number}", folder=folder, state_url=url, variables=variables)
        for number in (1, 2)
    ]
    async with brokers(instances) as world:
        yield world


@pytest.mark.parametrize("replicas", [0, 1])
async def test_sentinel_fails_over_to_a_replica_that_is_behind(
    fault: Fault, tmp_path: Path, replicas: int
) -> None:
    """Without a replica that must hold it, what was confirmed last is gone with the master."""
    name = f"Sentinel failover, `SCAN_LOGIN_REPLICAS={replicas}`"
    with watched() as redis:
        await eventually(redis.is_known, KNOWN_WITHIN)
        async with (
            brokers_over(redis.url, tmp_path, SCAN_LOGIN_REPLICAS=str(replicas)) as world,
            fault(name, world, loses=not replicas),
        ):
            redis.leave_replicas_behind()
            await asyncio.sleep(BEHIND)
            redis.master.kill()
            await eventually(redis.has_failed_over, FAILED_OVER_WITHIN)


async def test_slots_of_a_cluster_move(fault: Fault, tmp_path: Path) -> None:
    with cluster(3) as nodes:
        url = f"redis+cluster://{','.join(f'127.0.0.1:{node.port}' for node in nodes)}"
        async with brokers_over(url, tmp_path) as world, fault("slots move in a Cluster", world):
            await asyncio.to_thread(move_logins, nodes)


def move_logins(nodes: Sequence[RedisServer]) -> None:
    """Move every slot with logins that the first node has to the second."""
    first, second, *others = nodes
    for shelf in SHARDS:
        slot = key_slot(shelf.encode())
        if slot < 16384 // len(nodes):  # they were dealt out in order
            move(slot, first, second, others)


def move(
    slot: int, source: RedisServer, target: RedisServer, others: Sequence[RedisServer]
) -> None:
    """As `redis-cli --cluster reshard` does it."""
    source_id, target_id = (ask(node, "CLUSTER MYID") for node in (source, target))
    ask(target, "CLUSTER SETSLOT", slot, "IMPORTING", source_id)
    ask(source, "CLUSTER SETSLOT", slot, "MIGRATING", target_id)
    while keys := ask(source, "CLUSTER GETKEYSINSLOT", slot, 10):
        ask(source, "MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, "KEYS", *keys)
    for node in (target, source, *others):
        ask(node, "CLUSTER SETSLOT", slot, "NODE", target_id)
