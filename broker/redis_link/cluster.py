"""A Redis Cluster, by redis-py's own client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from redis import asyncio as aioredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import NoScriptError, RedisClusterException, RedisError, ResponseError

from broker.background import BackgroundTask
from broker.errors import Unavailable
from broker.redis_link.wire import (
    PROBE,
    SILENCE,
    Feed,
    Part,
    Probes,
    Reply,
    Script,
    ServerSaid,
    SharedTime,
    meant,
    outage,
    subscribed,
    within,
)

OUT_OF_REACH = (RedisError, RedisClusterException, OSError, TimeoutError, AttributeError)
"""What redis-py raises where a Cluster cannot be reached.  AttributeError: a connection
that another command's failure has closed in the middle of this one."""

IN_FLIGHT = 64
"""Commands under way at once on Cluster: redis-py raises where it runs out of connections."""


class Cluster:
    """A Redis Cluster, by redis-py's own client; a channel lives on the node of its slot."""

    one_server = False

    def __init__(self, client: aioredis.RedisCluster) -> None:
        self._client = client
        self.clock = SharedTime()
        self._room = asyncio.Semaphore(IN_FLIGHT)
        self._task = BackgroundTask("redis connection", self._probe)
        self._tried = asyncio.Event()
        self._probes = Probes()
        self._outage = outage()

    async def open(self) -> None:
        self._task.start()
        await self._tried.wait()

    def trouble(self) -> str | None:
        return self._outage.reason or self._task.trouble() or self._probes.trouble()

    async def call(self, *command: Part) -> Reply:
        async with self._room:
            try:
                async with within(SILENCE):
                    return await self._client.execute_command(*command)
            except NoScriptError:
                raise
            except ResponseError as error:
                # redis-py cuts off the words that it knows.
                raise meant(ServerSaid(f"{error.status_code or ''} {error}".lstrip())) from None
            except OUT_OF_REACH:
                raise Unavailable from None

    async def run(self, what: Script, keys: Sequence[Part], *arguments: Part) -> Reply:
        with suppress(NoScriptError):
            return await self.call("EVALSHA", what.sha, len(keys), *keys, *arguments)
        return await self.call("EVAL", what.text, len(keys), *keys, *arguments)

    async def publish(self, channel: str, payload: bytes) -> None:
        await self.call("SPUBLISH", channel, payload)

    @asynccontextmanager
    async def subscribed(self, channel: str) -> AsyncIterator[Feed]:
        try:
            async with within(SILENCE):
                # Where the slot has moved, the heartbeat's PUBLISH hears so, and the client learns.
                await self._client.initialize()
                node = self._client.get_node_from_key(channel)
        except OUT_OF_REACH:
            raise Unavailable from None
        if node is None:
            raise Unavailable

        def make() -> AbstractConnection:
            return node.connection_class(**node.connection_kwargs)

        async with subscribed(make, "SSUBSCRIBE", channel) as feed:
            yield feed

    async def close(self) -> None:
        await self._task.stop()
        await self._client.aclose()

    async def _probe(self) -> None:
        """Ask a node for the time, again and again: that sets the clock, and shows trouble."""
        while True:
            try:
                await self._ask()
                self._outage.is_over()
            except (*OUT_OF_REACH, ValueError) as error:
                self._outage.fails(str(error) or "no answer")
            finally:
                self._tried.set()
            await asyncio.sleep(PROBE)

    async def _ask(self) -> None:
        asked_at = time.monotonic()
        async with within(SILENCE):
            await self._client.initialize()
            node = min(self._client.get_primaries(), key=lambda node: str(node.name))
            self.clock.set(await self._client.execute_command("TIME", target_nodes=node), asked_at)
        self._probes.answered()
