"""One server, or under Sentinel whichever is the master: a wire that is kept alive."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress

from redis.asyncio.connection import AbstractConnection

from broker.background import BackgroundTask
from broker.errors import Unavailable
from broker.redis_link.downtime import Downtime
from broker.redis_link.memory import Memory, read_memory
from broker.redis_link.wire import (
    DOWNTIME_MIN,
    ELSEWHERE,
    PROBE,
    SILENCE,
    Feed,
    Part,
    Probes,
    Refusals,
    Reply,
    Script,
    ServerSaid,
    SharedTime,
    Wire,
    outage,
    subscribed,
    wired,
    write_probe,
)

PATIENCE = 0.5
"""Seconds for which a caller waits for a wire that was lost just now."""

PAUSES = (0.0, 0.1, 0.2, 0.4, 0.8)
"""Seconds between attempts to connect; the last one again and again, and up to a
quarter more so that instances do not come all at once."""


class Link:
    """Keeps one wire to a server alive.

    make: gives a connection that has yet to be opened.
    writes: whether the server is probed for taking writes.
    """

    def __init__(
        self, make: Callable[[], AbstractConnection], time: SharedTime, *, writes: bool
    ) -> None:
        self._make = make
        self._time = time
        self._writes = writes
        self.refusals = Refusals()
        self.downtime = Downtime(time, DOWNTIME_MIN)
        self._wire: Wire | None = None
        self._up = asyncio.Event()
        self._down_since = -PATIENCE
        self._task = BackgroundTask("redis connection", self._keep)
        self._tried = asyncio.Event()
        self._probes = Probes()
        self.outage = outage()

    async def open(self) -> None:
        self._task.start()
        await self._tried.wait()

    async def close(self) -> None:
        await self._task.stop()

    def trouble(self) -> str | None:
        return self.outage.reason or self._task.trouble() or self._probes.trouble()

    async def call(self, *command: Part) -> Reply:
        """The reply; raises ServerSaid for an error reply, Unavailable where none comes."""
        wire = self._wire or await self._next_wire()
        try:
            return await wire.send(*command)
        except ConnectionError:
            raise Unavailable from None
        except ServerSaid as said:
            if said.word in ELSEWHERE:
                wire.abort()
            raise

    async def _next_wire(self) -> Wire:
        patience = self._down_since + PATIENCE - time.monotonic()
        if patience > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._up.wait()
        if self._wire is None:
            raise Unavailable
        return self._wire

    async def _keep(self) -> None:
        attempt = 0
        while True:
            try:
                wire = await self._connect()
            except ConnectionError as error:
                self.outage.fails(str(error) or "the connection was lost")
                attempt = min(attempt + 1, len(PAUSES) - 1)
            else:
                attempt = 0
                await self._use(wire)
            finally:
                self._tried.set()
            await asyncio.sleep(PAUSES[attempt] * random.uniform(1, 1.25))  # noqa: S311

    async def _use(self, wire: Wire) -> None:
        """Offer the connection to callers until it is lost."""
        self._put_up(wire)
        try:
            await self._watch(wire)
            if self.refusals.writes_refused_by is None:  # else it was closed to try another server
                self.outage.fails("the connection was lost")
        finally:
            self._put_down()
            await wire.close()

    async def _connect(self) -> Wire:
        """A wire whose server answers, so that the clock is set; raises ConnectionError."""
        wire = await wired(self._make)
        try:
            await self._ask(wire)
            await self._probe_write(wire)
        except BaseException:
            wire.abort()
            raise
        return wire

    def _put_up(self, wire: Wire) -> None:
        self.outage.is_over()
        self._wire = wire
        self._up.set()
        self._tried.set()

    def _put_down(self) -> None:
        self._wire = None
        self._up.clear()
        self._down_since = time.monotonic()

    async def _watch(self, wire: Wire) -> None:
        """Return once the wire is lost; drop it when it is silent."""
        while not wire.lost.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(PROBE):
                    await wire.lost.wait()
            try:
                await self._ask(wire)
                refusal = await self._probe_write(wire)
            except ConnectionError:
                wire.abort()
            else:
                if refusal is not None and refusal.word in ELSEWHERE:
                    wire.abort()

    async def _probe_write(self, wire: Wire) -> ServerSaid | None:
        """Probe whether writes are accepted and return the refusal; raises ConnectionError."""
        if not self._writes:
            return None
        refusal = None
        try:
            async with asyncio.timeout(SILENCE):
                await wire.send(*write_probe(WRITE_PROBE_KEY))
        except TimeoutError:
            raise ConnectionError("no answer") from None
        except ServerSaid as said:
            refusal = said
        self.refusals.probed(refusal)
        if refusal is None:
            self.downtime.works()
        return refusal

    async def _ask(self, wire: Wire) -> None:
        """Ask for the time, and set the clock by it; raises ConnectionError, which says why."""
        asked_at = time.monotonic()
        try:
            async with asyncio.timeout(SILENCE):
                self._time.set(await wire.send("TIME"), asked_at)
        except (TimeoutError, ServerSaid) as error:
            raise ConnectionError(str(error) or "no answer") from None
        self._probes.answered()


WRITE_PROBE_KEY = "scanlogin:probe"


class Server:
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
        self.clock = SharedTime()
        self._link = Link(make, self.clock, writes=writes)
        self.downtime = self._link.downtime

    async def open(self) -> None:
        await self._link.open()

    def trouble(self) -> str | None:
        return self._link.trouble()

    def refusal(self) -> str | None:
        return self._link.refusals.writes_refused_by

    async def call(self, *command: Part) -> Reply:
        try:
            return await self._link.call(*command)
        except ServerSaid as said:
            raise self._link.refusals.meant(said) from None

    async def run(self, what: Script, keys: Sequence[Part], *arguments: Part) -> Reply:
        try:
            return await self._link.call("EVALSHA", what.sha, len(keys), *keys, *arguments)
        except ServerSaid as said:
            if said.word != "NOSCRIPT":
                raise self._link.refusals.meant(said) from None
        return await self.call("EVAL", what.text, len(keys), *keys, *arguments)

    async def publish(self, channel: str, payload: bytes) -> None:
        await self.call("PUBLISH", channel, payload)

    async def memory(self) -> list[Memory]:
        try:
            return [read_memory(await self._link.call("INFO", "memory"))]
        except ServerSaid as said:
            return self._link.refusals.of_memory(said)

    def subscribed(self, channel: str) -> AbstractAsyncContextManager[Feed]:
        return subscribed(self._make, "SUBSCRIBE", channel)

    async def close(self) -> None:
        await self._link.close()
        await self._let_go()
