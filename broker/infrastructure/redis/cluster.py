"""A Redis Cluster, by redis-py's own client."""

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
    DOWNTIME_MIN,
    PING_INTERVAL,
    REPLY_TIMEOUT,
    ErrorReply,
    Probes,
    Refusals,
    Reply,
    hard_timeout,
    redis_outage_log,
    write_probe,
)
from broker.infrastructure.redis.downtime import Downtime
from broker.infrastructure.redis.memory_policy import Memory, memory_of
from broker.infrastructure.redis.scripts import CommandPart, Script
from broker.infrastructure.redis.server_clock import ServerClock
from broker.infrastructure.redis.subscription import MessageQueue, subscribe

CONNECTION_ERRORS = (RedisError, RedisClusterException, OSError, TimeoutError, AttributeError)
"""What redis-py raises where a Cluster cannot be reached.  AttributeError: a connection
that another command's failure has closed in the middle of this one."""

HASH_TAGS = string.ascii_letters + string.digits + "-_"
"""The hash tags of the state's keys."""

MAX_IN_FLIGHT = 64
"""Commands under way at once on Cluster: redis-py raises where it runs out of connections."""


class RedisCluster:
    """A Redis Cluster, by redis-py's own client; a channel lives on the node of its slot."""

    one_server = False

    def __init__(self, client: aioredis.RedisCluster, *, writes: bool) -> None:
        self._client = client
        self._writes = writes
        self._refusals = Refusals()
        self.clock = ServerClock()
        self.downtime = Downtime(self.clock, DOWNTIME_MIN)
        self._room = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._task = BackgroundTask("redis connection", self._probe)
        self._tried = asyncio.Event()
        self._probes = Probes()
        self._outage = redis_outage_log()

    async def open(self) -> None:
        self._task.start()
        await self._tried.wait()

    def unavailable_reason(self) -> str | None:
        return self._outage.reason or self._task.trouble() or self._probes.trouble()

    def refusal(self) -> str | None:
        return self._refusals.writes_refused_by

    async def call(self, *command: CommandPart) -> Reply:
        async with self._room:
            try:
                async with hard_timeout(REPLY_TIMEOUT):
                    return await self._client.execute_command(*command)
            except NoScriptError:
                raise
            except ResponseError as error:
                raise self._refusals.meant(_said(error)) from None
            except CONNECTION_ERRORS:
                raise Unavailable from None

    async def run(
        self, what: Script, keys: Sequence[CommandPart], *arguments: CommandPart
    ) -> Reply:
        with suppress(NoScriptError):
            return await self.call("EVALSHA", what.sha, len(keys), *keys, *arguments)
        return await self.call("EVAL", what.text, len(keys), *keys, *arguments)

    async def publish(self, channel: str, payload: bytes) -> None:
        await self.call("SPUBLISH", channel, payload)

    @asynccontextmanager
    async def subscribe(self, channel: str) -> AsyncIterator[MessageQueue]:
        try:
            async with hard_timeout(REPLY_TIMEOUT):
                # Where the slot has moved, the heartbeat's PUBLISH hears so, and the client learns.
                await self._client.initialize()
                node = self._client.get_node_from_key(channel)
        except CONNECTION_ERRORS:
            raise Unavailable from None
        if node is None:
            raise Unavailable

        def make() -> AbstractConnection:
            return node.connection_class(**node.connection_kwargs)

        async with subscribe(make, "SSUBSCRIBE", channel) as feed:
            yield feed

    async def close(self) -> None:
        await self._task.stop()
        await self._client.aclose()

    async def _probe(self) -> None:
        """Ask a node for the time, again and again: that sets the clock, and shows trouble."""
        while True:
            try:
                await self._ask()
                self._outage.recovered()
                await self._probe_writes()
            except (*CONNECTION_ERRORS, ValueError) as error:
                self._outage.failed(str(error) or "no answer")
            finally:
                self._tried.set()
            await asyncio.sleep(PING_INTERVAL)

    async def _ask(self) -> None:
        asked_at = time.monotonic()
        async with hard_timeout(REPLY_TIMEOUT):
            await self._client.initialize()
            node = min(self._client.get_primaries(), key=lambda node: str(node.name))
            self.clock.set(await self._client.execute_command("TIME", target_nodes=node), asked_at)
        self._probes.answered()

    async def _probe_writes(self) -> None:
        """Check whether each primary accepts writes."""
        if not self._writes:
            return
        refusal = None
        try:
            async with hard_timeout(REPLY_TIMEOUT):
                probes = (write_probe(key) for key in self._probe_keys())
                await asyncio.gather(*(self._client.execute_command(*one) for one in probes))
        except ResponseError as error:
            refusal = _said(error)
        self._refusals.probed(refusal)
        if refusal is None:
            self.downtime.works()

    def _probe_keys(self) -> Collection[str]:
        """One key for each primary that holds a part of the state."""
        keys = [f"scanlogin:{{{tag}}}:probe" for tag in HASH_TAGS]
        return {str(self._client.get_node_from_key(key)): key for key in keys}.values()

    async def memory(self) -> list[Memory]:
        try:
            async with hard_timeout(REPLY_TIMEOUT):
                found = await self._client.execute_command(
                    "INFO", "memory", target_nodes=aioredis.RedisCluster.PRIMARIES
                )
        except ResponseError as error:
            return self._refusals.of_memory(_said(error))
        except CONNECTION_ERRORS:
            raise Unavailable from None
        return [memory_of(fields) for fields in by_node(found)]


def by_node(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """INFO's fields of each node; redis-py omits the names if there is one node."""
    one = not all(isinstance(value, dict) for value in found.values())
    return [found] if one else list(found.values())


def _said(error: ResponseError) -> ErrorReply:
    """Restore the error word, which redis-py removes."""
    return ErrorReply(f"{error.status_code or ''} {error}".lstrip())
