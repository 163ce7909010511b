"""Failover of a master under Sentinel, and moved slots of a Redis Cluster."""

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

DISCOVERY_TIMEOUT = 20.0
"""Seconds until every sentinel knows the replicas; it queries the master every ten."""

FAILOVER_TIMEOUT = 20.0

REPLICA_LAG = 1.0
"""Seconds between the disconnect of the replicas and the end of the master.

A failover loses the writes of this time.
"""


class SentinelServers(NamedTuple):
    """A master with two replicas and three sentinels."""

    master: RedisServer
    replicas: Sequence[RedisServer]
    sentinels: Sequence[RedisServer]

    @property
    def url(self) -> str:
        places = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{places}/mymaster"

    def is_known(self) -> bool:
        """Return whether each sentinel knows all replicas and sentinels."""
        return all(
            len(execute(server_, "SENTINEL REPLICAS", "mymaster")) == len(self.replicas)
            and len(execute(server_, "SENTINEL SENTINELS", "mymaster")) == len(self.sentinels) - 1
            for server_ in self.sentinels
        )

    def disconnect_replicas(self) -> None:
        """Disconnect the replicas from the master: they follow the port of a sentinel."""
        for replica in self.replicas:
            execute(replica, "REPLICAOF", "127.0.0.1", self.sentinels[0].port)

    def has_failed_over(self) -> bool:
        return any(execute(replica, "ROLE")[0] == b"master" for replica in self.replicas)


def execute(server: RedisServer, command: str, *arguments: object) -> Any:
    with server.client() as client:
        return client.execute_command(command, *arguments)


@contextmanager
def sentinel_servers() -> Iterator[SentinelServers]:
    with ExitStack() as stack:
        master = stack.enter_context(running(redis_program(), *PLAIN))
        replica_options = (
            "--replicaof",
            "127.0.0.1",
            str(master.port),
            "--repl-diskless-sync-delay",
            "0",
        )
        replicas = [
            stack.enter_context(running(redis_program(), *PLAIN, *replica_options))
            for _ in range(2)
        ]
        sentinels = [stack.enter_context(sentinel_of(master, quorum=2)) for _ in range(3)]
        yield SentinelServers(master, replicas, sentinels)


@asynccontextmanager
async def brokers_over(url: str, folder: Path, **variables: str) -> AsyncIterator[World]:
    instances = [
        Instance(f"broker-{number}", folder=folder, state_url=url, variables=variables)
        for number in (1, 2)
    ]
    async with brokers(instances) as world:
        yield world


@pytest.mark.parametrize("replicas", [0, 1])
async def test_logins_survive_failover_to_lagging_replica(
    fault: Fault, tmp_path: Path, replicas: int
) -> None:
    """With SCAN_LOGIN_REPLICAS=0 the failover loses the latest confirms."""
    name = f"Sentinel failover, `SCAN_LOGIN_REPLICAS={replicas}`"
    with sentinel_servers() as redis:
        await eventually(redis.is_known, DISCOVERY_TIMEOUT)
        async with (
            brokers_over(redis.url, tmp_path, SCAN_LOGIN_REPLICAS=str(replicas)) as world,
            fault(name, world, loses=not replicas),
        ):
            redis.disconnect_replicas()
            await asyncio.sleep(REPLICA_LAG)
            redis.master.kill()
            await eventually(redis.has_failed_over, FAILOVER_TIMEOUT)


async def test_logins_survive_move_of_cluster_slots(fault: Fault, tmp_path: Path) -> None:
    with cluster(3) as nodes:
        url = f"redis+cluster://{','.join(f'127.0.0.1:{node.port}' for node in nodes)}"
        async with brokers_over(url, tmp_path) as world, fault("slots move in a Cluster", world):
            await asyncio.to_thread(move_logins, nodes)


def move_logins(nodes: Sequence[RedisServer]) -> None:
    """Move every slot with logins from the first node to the second."""
    first, second, *others = nodes
    for shard in SHARDS:
        slot = key_slot(shard.encode())
        if slot < 16384 // len(nodes):  # the first node has the lowest slots
            move(slot, first, second, others)


def move(
    slot: int, source: RedisServer, target: RedisServer, others: Sequence[RedisServer]
) -> None:
    """Move a slot as `redis-cli --cluster reshard` does."""
    source_id, target_id = (execute(node, "CLUSTER MYID") for node in (source, target))
    execute(target, "CLUSTER SETSLOT", slot, "IMPORTING", source_id)
    execute(source, "CLUSTER SETSLOT", slot, "MIGRATING", target_id)
    while keys := execute(source, "CLUSTER GETKEYSINSLOT", slot, 10):
        execute(source, "MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, "KEYS", *keys)
    for node in (target, source, *others):
        execute(node, "CLUSTER SETSLOT", slot, "NODE", target_id)
