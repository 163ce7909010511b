"""Keeps one connection to a server alive."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress

from redis.asyncio.connection import AbstractConnection

from broker.errors import Unavailable
from broker.infrastructure.background import BackgroundTask
from broker.infrastructure.redis.connection import (
    DOWNTIME_MIN,
    PING_INTERVAL,
    REPLY_TIMEOUT,
    WRONG_SERVER_REPLIES,
    ErrorReply,
    Probes,
    RedisConnection,
    Refusals,
    Reply,
    connect,
    redis_outage_log,
    write_probe,
)
from broker.infrastructure.redis.downtime import Downtime
from broker.infrastructure.redis.scripts import CommandPart
from broker.infrastructure.redis.server_clock import ServerClock

CONNECTION_WAIT_TIMEOUT = 0.5
"""Seconds for which a caller waits for a wire that was lost just now."""

RECONNECT_DELAYS = (0.0, 0.1, 0.2, 0.4, 0.8)
"""Seconds between attempts to connect; the last one again and again, and up to a
quarter more so that instances do not come all at once."""


class Reconnector:
    """Keeps one wire to a server alive.

    make: gives a connection that has yet to be opened.
    writes: whether the server is probed for taking writes.
    """

    def __init__(
        self, make: Callable[[], AbstractConnection], time: ServerClock, *, writes: bool
    ) -> None:
        self._make = make
        self._time = time
        self._writes = writes
        self.refusals = Refusals()
        self.downtime = Downtime(time, DOWNTIME_MIN)
        self._wire: RedisConnection | None = None
        self._up = asyncio.Event()
        self._down_since = -CONNECTION_WAIT_TIMEOUT
        self._task = BackgroundTask("redis connection", self._keep)
        self._tried = asyncio.Event()
        self._probes = Probes()
        self.outage = redis_outage_log()

    async def open(self) -> None:
        self._task.start()
        await self._tried.wait()

    async def close(self) -> None:
        await self._task.stop()

    def trouble(self) -> str | None:
        return self.outage.reason or self._task.trouble() or self._probes.trouble()

    async def call(self, *command: CommandPart) -> Reply:
        """The reply; raises ErrorReply for an error reply, Unavailable where none comes."""
        wire = self._wire or await self._next_wire()
        try:
            return await wire.send(*command)
        except ConnectionError:
            raise Unavailable from None
        except ErrorReply as said:
            if said.code in WRONG_SERVER_REPLIES:
                wire.abort()
            raise

    async def _next_wire(self) -> RedisConnection:
        patience = self._down_since + CONNECTION_WAIT_TIMEOUT - time.monotonic()
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
                self.outage.failed(str(error) or "the connection was lost")
                attempt = min(attempt + 1, len(RECONNECT_DELAYS) - 1)
            else:
                attempt = 0
                await self._use(wire)
            finally:
                self._tried.set()
            await asyncio.sleep(RECONNECT_DELAYS[attempt] * random.uniform(1, 1.25))  # noqa: S311

    async def _use(self, wire: RedisConnection) -> None:
        """Offer the connection to callers until it is lost."""
        self._put_up(wire)
        try:
            await self._watch(wire)
            if self.refusals.writes_refused_by is None:  # else it was closed to try another server
                self.outage.failed("the connection was lost")
        finally:
            self._put_down()
            await wire.close()

    async def _connect(self) -> RedisConnection:
        """A wire whose server answers, so that the clock is set; raises ConnectionError."""
        wire = await connect(self._make)
        try:
            await self._ask(wire)
            await self._probe_write(wire)
        except BaseException:
            wire.abort()
            raise
        return wire

    def _put_up(self, wire: RedisConnection) -> None:
        self.outage.recovered()
        self._wire = wire
        self._up.set()
        self._tried.set()

    def _put_down(self) -> None:
        self._wire = None
        self._up.clear()
        self._down_since = time.monotonic()

    async def _watch(self, wire: RedisConnection) -> None:
        """Return once the wire is lost; drop it when it is silent."""
        while not wire.lost.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(PING_INTERVAL):
                    await wire.lost.wait()
            try:
                await self._ask(wire)
                refusal = await self._probe_write(wire)
            except ConnectionError:
                wire.abort()
            else:
                if refusal is not None and refusal.code in WRONG_SERVER_REPLIES:
                    wire.abort()

    async def _probe_write(self, wire: RedisConnection) -> ErrorReply | None:
        """Probe whether writes are accepted and return the refusal; raises ConnectionError."""
        if not self._writes:
            return None
        refusal = None
        try:
            async with asyncio.timeout(REPLY_TIMEOUT):
                await wire.send(*write_probe(WRITE_PROBE_KEY))
        except TimeoutError:
            raise ConnectionError("no answer") from None
        except ErrorReply as said:
            refusal = said
        self.refusals.probed(refusal)
        if refusal is None:
            self.downtime.works()
        return refusal

    async def _ask(self, wire: RedisConnection) -> None:
        """Ask for the time, and set the clock by it; raises ConnectionError, which says why."""
        asked_at = time.monotonic()
        try:
            async with asyncio.timeout(REPLY_TIMEOUT):
                self._time.set(await wire.send("TIME"), asked_at)
        except (TimeoutError, ErrorReply) as error:
            raise ConnectionError(str(error) or "no answer") from None
        self._probes.answered()


WRITE_PROBE_KEY = "scanlogin:probe"
