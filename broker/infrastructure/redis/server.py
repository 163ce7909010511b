"""One server, or the current master under Sentinel."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager

from redis.asyncio.connection import AbstractConnection

from broker.infrastructure.redis.connection import ErrorReply, RedisConnection, Reply
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
    replicas: how many replicas must hold a write; 0 for none.
    """

    is_single_server = True

    def __init__(
        self,
        make: Callable[[], AbstractConnection],
        close_pool: Callable[[], Awaitable[None]],
        name: str,
        *,
        writes: bool,
        replicas: int = 0,
    ) -> None:
        self._make = make
        self._close_pool = close_pool
        self.clock = ServerClock()
        self._reconnector = Reconnector(make, self.clock, name, writes=writes, replicas=replicas)
        self._refusals = self._reconnector.refusals
        self.downtime = self._reconnector.downtime

    async def open(self) -> None:
        await self._reconnector.open()

    def unavailable_reason(self) -> str | None:
        return self._reconnector.health.unavailable_reason()

    def unready_reason(self) -> str | None:
        return self._reconnector.health.unready_reason()

    def refusal(self) -> str | None:
        return self._refusals.writes_refused_by

    async def call(self, *command: CommandPart) -> Reply:
        # One coroutine a command, as in `run`: each further one costs as much as its encoding.
        connection = self._reconnector.connection or await self._reconnector.next_connection()
        try:
            return await connection.send(*command)
        except (ConnectionError, ErrorReply) as error:
            raise self._failure(connection, error) from None

    async def run(
        self, script: Script, keys: Sequence[CommandPart], *arguments: CommandPart
    ) -> Reply:
        connection = self._reconnector.connection or await self._reconnector.next_connection()
        try:
            return await connection.send("EVALSHA", script.sha, len(keys), *keys, *arguments)
        except (ConnectionError, ErrorReply) as error:
            if not (isinstance(error, ErrorReply) and error.code == "NOSCRIPT"):
                raise self._failure(connection, error) from None
        return await self.call("EVAL", script.text, len(keys), *keys, *arguments)

    def _failure(
        self, connection: RedisConnection, error: ConnectionError | ErrorReply
    ) -> Exception:
        failure = self._reconnector.failure(connection, error)
        return self._refusals.to_exception(failure) if isinstance(failure, ErrorReply) else failure

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
