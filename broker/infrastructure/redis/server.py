"""One server, or the current master under Sentinel."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager

from redis.asyncio.connection import AbstractConnection

from broker.infrastructure.redis.connection import ErrorReply, Reply
from broker.infrastructure.redis.memory_policy import MemoryPolicy, parse_memory_policy
from broker.infrastructure.redis.reconnector import Reconnector
from broker.infrastructure.redis.scripts import CommandPart, Script
from broker.infrastructure.redis.server_clock import ServerClock
from broker.infrastructure.redis.subscription import MessageQueue, subscribe


class RedisServer:
    """One server, or the current master under Sentinel.

    make: creates a redis-py connection that is not open.
    close_pool: closes what `make` uses, such as connections to Sentinel.
    name: of the connection in log events.
    writes: whether the server is probed for accepting writes.
    """

    is_single_server = True

    def __init__(
        self,
        make: Callable[[], AbstractConnection],
        close_pool: Callable[[], Awaitable[None]],
        name: str,
        *,
        writes: bool,
    ) -> None:
        self._make = make
        self._close_pool = close_pool
        self.clock = ServerClock()
        self._reconnector = Reconnector(make, self.clock, name, writes=writes)
        self._refusals = self._reconnector.refusals
        self.downtime = self._reconnector.downtime

    async def open(self) -> None:
        await self._reconnector.open()

    def unavailable_reason(self) -> str | None:
        return self._reconnector.unavailable_reason()

    def refusal(self) -> str | None:
        return self._refusals.writes_refused_by

    async def call(self, *command: CommandPart) -> Reply:
        try:
            return await self._reconnector.call(*command)
        except ErrorReply as error:
            raise self._refusals.to_exception(error) from None

    async def run(
        self, script: Script, keys: Sequence[CommandPart], *arguments: CommandPart
    ) -> Reply:
        try:
            return await self._reconnector.call("EVALSHA", script.sha, len(keys), *keys, *arguments)
        except ErrorReply as error:
            if error.code != "NOSCRIPT":
                raise self._refusals.to_exception(error) from None
        return await self.call("EVAL", script.text, len(keys), *keys, *arguments)

    async def publish(self, channel: str, payload: bytes) -> None:
        await self.call("PUBLISH", channel, payload)

    async def memory(self) -> list[MemoryPolicy]:
        try:
            return [parse_memory_policy(await self._reconnector.call("INFO", "memory"))]
        except ErrorReply as error:
            return self._refusals.refused_memory(error)

    def subscribe(self, channel: str) -> AbstractAsyncContextManager[MessageQueue]:
        return subscribe(self._make, "SUBSCRIBE", channel)

    async def close(self) -> None:
        await self._reconnector.close()
        await self._close_pool()
