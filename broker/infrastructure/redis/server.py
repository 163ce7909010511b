"""One server, or under Sentinel whichever is the master: a wire that is kept alive."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager

from redis.asyncio.connection import AbstractConnection

from broker.infrastructure.redis.connection import ErrorReply, Reply
from broker.infrastructure.redis.memory_policy import Memory, read_memory
from broker.infrastructure.redis.reconnector import Reconnector
from broker.infrastructure.redis.scripts import CommandPart, Script
from broker.infrastructure.redis.server_clock import ServerClock
from broker.infrastructure.redis.subscription import MessageQueue, subscribe


class RedisServer:
    """One server, or under Sentinel whichever is the master.

    make: gives a connection to it that has yet to be opened.
    let_go: closes what was opened on the way to it.
    writes: whether the server is probed for taking writes.
    """

    one_server = True

    def __init__(
        self,
        make: Callable[[], AbstractConnection],
        let_go: Callable[[], Awaitable[None]],
        *,
        writes: bool,
    ) -> None:
        self._make = make
        self._let_go = let_go
        self.clock = ServerClock()
        self._link = Reconnector(make, self.clock, writes=writes)
        self.downtime = self._link.downtime

    async def open(self) -> None:
        await self._link.open()

    def unavailable_reason(self) -> str | None:
        return self._link.trouble()

    def refusal(self) -> str | None:
        return self._link.refusals.writes_refused_by

    async def call(self, *command: CommandPart) -> Reply:
        try:
            return await self._link.call(*command)
        except ErrorReply as said:
            raise self._link.refusals.meant(said) from None

    async def run(
        self, what: Script, keys: Sequence[CommandPart], *arguments: CommandPart
    ) -> Reply:
        try:
            return await self._link.call("EVALSHA", what.sha, len(keys), *keys, *arguments)
        except ErrorReply as said:
            if said.code != "NOSCRIPT":
                raise self._link.refusals.meant(said) from None
        return await self.call("EVAL", what.text, len(keys), *keys, *arguments)

    async def publish(self, channel: str, payload: bytes) -> None:
        await self.call("PUBLISH", channel, payload)

    async def memory(self) -> list[Memory]:
        try:
            return [read_memory(await self._link.call("INFO", "memory"))]
        except ErrorReply as said:
            return self._link.refusals.of_memory(said)

    def subscribe(self, channel: str) -> AbstractAsyncContextManager[MessageQueue]:
        return subscribe(self._make, "SUBSCRIBE", channel)

    async def close(self) -> None:
        await self._link.close()
        await self._let_go()
