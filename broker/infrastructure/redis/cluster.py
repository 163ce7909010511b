"""A Redis Cluster, through redis-py's client."""

from __future__ import annotations

import asyncio
import string
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from redis import asyncio as aioredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import NoScriptError, RedisClusterException, RedisError, ResponseError

from broker.errors import Unavailable
from broker.infrastructure.background import BackgroundTask
from broker.infrastructure.redis.connection import (
    REPLY_TIMEOUT,
    ErrorReply,
    Reply,
    hard_timeout,
)
from broker.infrastructure.redis.downtime import Downtime
from broker.infrastructure.redis.health import (
    DOWNTIME_MIN,
    PING_INTERVAL,
    Health,
    Probes,
    Refusals,
    Replicas,
    redis_outage_log,
    write_probe,
)
from broker.infrastructure.redis.memory_policy import MemoryPolicy, to_memory_policy
from broker.infrastructure.redis.scripts import CommandPart, Script
from broker.infrastructure.redis.server_clock import ServerClock
from broker.infrastructure.redis.subscription import MessageQueue, subscribe

CONNECTION_ERRORS = (RedisError, RedisClusterException, OSError, TimeoutError, AttributeError)
"""Errors of redis-py if a Cluster cannot be reached. AttributeError: the failure of another
command has closed the connection during this one."""

HASH_TAGS = string.ascii_letters + string.digits + "-_"
"""The hash tags of the state's keys."""

MAX_IN_FLIGHT = 64
"""Concurrent commands. redis-py raises an error if all its connections are in use."""


class RedisCluster:
    """A Redis Cluster, through redis-py's client. A channel is on the node of its slot.

    name: of the connection in log events.
    """

    is_single_server = False

    def __init__(self, client: aioredis.RedisCluster, name: str, *, writes: bool) -> None:
        self._client = client
        self._writes = writes
        self._refusals = Refusals(name)
        self.clock = ServerClock()
        self.downtime = Downtime(self.clock, DOWNTIME_MIN)
        self._in_flight = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._task = BackgroundTask("redis connection", self._probe)
        self._tried = asyncio.Event()
        self._probes = Probes()
        self._outage = redis_outage_log(name)
        self._health = Health(self._task, self._outage, self._probes, self._refusals, Replicas(0))

    async def open(self) -> None:
        self._task.start()
        await self._tried.wait()

    def unavailable_reason(self) -> str | None:
        return self._health.unavailable_reason()

    def unready_reason(self) -> str | None:
        return self._health.unready_reason()

    def refusal(self) -> str | None:
        return self._refusals.writes_refused_by

    async def call(self, *command: CommandPart) -> Reply:
        async with self._in_flight:
            try:
                async with hard_timeout(REPLY_TIMEOUT):
                    return await self._client.execute_command(*command)
            except NoScriptError:
                raise
            except ResponseError as error:
                raise self._refusals.to_exception(_error_reply(error)) from None
            except CONNECTION_ERRORS:
                raise Unavailable from None

    async def run(
        self, script: Script, keys: Sequence[CommandPart], *arguments: CommandPart
    ) -> Reply:
        with suppress(NoScriptError):
            return await self.call("EVALSHA", script.sha, len(keys), *keys, *arguments)
        return await self.call("EVAL", script.text, len(keys), *keys, *arguments)

    async def publish(self, channel: str, payload: bytes) -> None:
        await self.call("SPUBLISH", channel, payload)

    @asynccontextmanager
    async def subscribe(self, channel: str) -> AsyncIterator[MessageQueue]:
        try:
            async with hard_timeout(REPLY_TIMEOUT):
                # If the slot has moved, the reply to the heartbeat's PUBLISH updates the client.
                await self._client.initialize()
                node = self._client.get_node_from_key(channel)
        except CONNECTION_ERRORS:
            raise Unavailable from None
        if node is None:
            raise Unavailable

        def make() -> AbstractConnection:
            return node.connection_class(**node.connection_kwargs)

        async with subscribe(make, "SSUBSCRIBE", channel) as messages:
            yield messages

    async def close(self) -> None:
        await self._task.stop()
        await self._client.aclose()
        # redis-py 8.1 closes nothing if the last command has lost its connection.
        for nodes in ("nodes_cache", "startup_nodes"):
            await self._client.nodes_manager.aclose(nodes)

    async def _probe(self) -> None:
        """Set the clock and probe for writes at an interval. Record the outcome."""
        while True:
            try:
                await self._sync_clock()
                self._outage.recovered()
                await self._probe_writes()
            except (*CONNECTION_ERRORS, ValueError) as error:
                self._outage.failed(str(error) or "no answer")
            finally:
                self._tried.set()
            await asyncio.sleep(PING_INTERVAL)

    async def _sync_clock(self) -> None:
        asked_at = time.monotonic()
        async with hard_timeout(REPLY_TIMEOUT):
            await self._client.initialize()
            node = min(self._client.get_primaries(), key=lambda node: str(node.name))
            self.clock.set(await self._client.execute_command("TIME", target_nodes=node), asked_at)
        self._probes.record_answer()

    async def _probe_writes(self) -> None:
        """Check whether each primary accepts writes."""
        if not self._writes:
            return
        refusal = None
        try:
            async with hard_timeout(REPLY_TIMEOUT):
                probes = (write_probe(key) for key in self._probe_keys())
                await asyncio.gather(*(self._client.execute_command(*probe) for probe in probes))
        except ResponseError as error:
            refusal = _error_reply(error)
        self._refusals.record_probe(refusal)
        if refusal is None:
            self.downtime.record_write()

    def _probe_keys(self) -> Collection[str]:
        """Return one key for each primary that holds a part of the state."""
        keys = [f"scanlogin:{{{tag}}}:probe" for tag in HASH_TAGS]
        return {str(self._client.get_node_from_key(key)): key for key in keys}.values()

    async def memory(self) -> list[MemoryPolicy]:
        try:
            async with hard_timeout(REPLY_TIMEOUT):
                found = await self._client.execute_command(
                    "INFO", "memory", target_nodes=aioredis.RedisCluster.PRIMARIES
                )
        except ResponseError as error:
            return self._refusals.refused_memory(_error_reply(error))
        except CONNECTION_ERRORS:
            raise Unavailable from None
        return [to_memory_policy(fields) for fields in by_node(found)]


def by_node(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return INFO's fields of each node. With one node, redis-py omits the nodes' names."""
    is_one_node = not all(isinstance(value, dict) for value in found.values())
    return [found] if is_one_node else list(found.values())


def _error_reply(error: ResponseError) -> ErrorReply:
    """Restore the error code, which redis-py removes."""
    return ErrorReply(f"{error.status_code or ''} {error}".lstrip())
