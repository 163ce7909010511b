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
    REPLY_TIMEOUT,
    ErrorReply,
    RedisConnection,
    Reply,
    connect,
)
from broker.infrastructure.redis.downtime import Downtime
from broker.infrastructure.redis.health import (
    DOWNTIME_MIN,
    PING_INTERVAL,
    WAIT_MS,
    WRONG_SERVER_REPLIES,
    Health,
    Probes,
    Refusals,
    Replicas,
    redis_outage_log,
    replicated_probe,
    write_probe,
)
from broker.infrastructure.redis.scripts import CommandPart
from broker.infrastructure.redis.server_clock import ServerClock

CONNECTION_WAIT_TIMEOUT = 0.5
"""Seconds for which commands wait for a new connection after one was lost."""

RECONNECT_DELAYS = (0.0, 0.1, 0.2, 0.4, 0.8)
"""Seconds before each attempt to connect. The last delay is repeated. Up to a quarter is added,
so that instances do not reconnect at the same time."""

WRITE_PROBE_KEY = "scanlogin:probe"


class Reconnector:
    """Keeps one connection to a server alive, and sets the clock by it.

    make: creates a redis-py connection that is not open.
    name: of the connection in log events.
    writes: whether the server is probed for accepting writes.
    replicas: how many replicas must hold a write; 0 for none.
    connection: the open connection; None while there is none.
    """

    def __init__(
        self,
        make: Callable[[], AbstractConnection],
        clock: ServerClock,
        name: str,
        *,
        writes: bool,
        replicas: int = 0,
    ) -> None:
        self._make = make
        self._clock = clock
        self._writes = writes
        self._replicas = Replicas(replicas)
        self._write_probe = replicated_probe() if replicas else write_probe(WRITE_PROBE_KEY)
        self.refusals = Refusals(name)
        self.downtime = Downtime(clock, DOWNTIME_MIN)
        self.connection: RedisConnection | None = None
        self._is_connected = asyncio.Event()
        self._lost_at = -CONNECTION_WAIT_TIMEOUT
        self._task = BackgroundTask("redis connection", self._stay_connected)
        self._tried = asyncio.Event()
        self._probes = Probes()
        self._outage = redis_outage_log(name)
        self.health = Health(self._task, self._outage, self._probes, self.refusals, self._replicas)

    async def open(self) -> None:
        """Connect, and keep the connection alive in the background.

        Returns after the first attempt.
        """
        self._task.start()
        await self._tried.wait()

    async def close(self) -> None:
        await self._task.stop()

    async def call(self, *command: CommandPart) -> Reply:
        """Return the reply to a command.

        Raises ErrorReply for an error reply, and Unavailable if there is no reply.
        """
        connection = self.connection or await self.next_connection()
        try:
            return await connection.send(*command)
        except (ConnectionError, ErrorReply) as error:
            raise self.failure(connection, error) from None

    def failure(
        self, connection: RedisConnection, error: ConnectionError | ErrorReply
    ) -> Exception:
        """Return what a caller gets for a failed command: Unavailable, or the error reply.

        A connection to a server that is not the master is closed.
        """
        if isinstance(error, ConnectionError):
            return Unavailable()
        if error.code in WRONG_SERVER_REPLIES:
            connection.abort()
        return error

    async def next_connection(self) -> RedisConnection:
        """Wait a moment for a connection after one was lost. Raises Unavailable."""
        remaining = self._lost_at + CONNECTION_WAIT_TIMEOUT - time.monotonic()
        if remaining > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(remaining):
                    await self._is_connected.wait()
        if self.connection is None:
            raise Unavailable
        return self.connection

    async def _stay_connected(self) -> None:
        attempt = 0
        while True:
            try:
                connection = await self._connect()
            except ConnectionError as error:
                self._outage.failed(str(error) or "the connection was lost")
                attempt = min(attempt + 1, len(RECONNECT_DELAYS) - 1)
            else:
                attempt = 0
                await self._use(connection)
            finally:
                self._tried.set()
            await asyncio.sleep(RECONNECT_DELAYS[attempt] * random.uniform(1, 1.25))  # noqa: S311

    async def _use(self, connection: RedisConnection) -> None:
        """Offer the connection to callers until it is lost."""
        self._set_connection(connection)
        try:
            await self._watch(connection)
            if self.refusals.writes_refused_by is None:  # else it was closed to try another server
                self._outage.failed("the connection was lost")
        finally:
            self._clear_connection()
            await connection.close()

    async def _connect(self) -> RedisConnection:
        """Return a connection whose server has answered. Raises ConnectionError."""
        connection = await connect(self._make)
        try:
            await self._sync_clock(connection)
            await self._probe_write(connection)
        except BaseException:
            connection.abort()
            raise
        return connection

    def _set_connection(self, connection: RedisConnection) -> None:
        self._outage.recovered()
        self.connection = connection
        self._is_connected.set()
        self._tried.set()

    def _clear_connection(self) -> None:
        self.connection = None
        self._is_connected.clear()
        self._lost_at = time.monotonic()

    async def _watch(self, connection: RedisConnection) -> None:
        """Probe the server until the connection is lost. Close it if there is no answer."""
        while not connection.lost.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(PING_INTERVAL):
                    await connection.lost.wait()
            try:
                await self._sync_clock(connection)
                refusal = await self._probe_write(connection)
            except ConnectionError:
                connection.abort()
            else:
                if refusal is not None and refusal.code in WRONG_SERVER_REPLIES:
                    connection.abort()

    async def _probe_write(self, connection: RedisConnection) -> ErrorReply | None:
        """Probe whether writes are accepted, and return the refusal. Raises ConnectionError."""
        if not self._writes:
            return None
        refusal, is_held = None, False
        try:
            async with asyncio.timeout(REPLY_TIMEOUT):
                await connection.send(*self._write_probe)
            is_held = await self._probe_replicas(connection)
        except TimeoutError:
            raise ConnectionError("no answer") from None
        except ErrorReply as error:
            refusal = error
        self.refusals.record_probe(refusal)
        if is_held:
            self.downtime.record_write()
        return refusal

    async def _probe_replicas(self, connection: RedisConnection) -> bool:
        """Return whether enough replicas hold the last write. Raises TimeoutError or ErrorReply."""
        required = self._replicas.required
        if not required:
            return True
        async with asyncio.timeout(REPLY_TIMEOUT + WAIT_MS / 1_000):
            return self._replicas.record(await connection.send("WAIT", required, WAIT_MS))

    async def _sync_clock(self, connection: RedisConnection) -> None:
        """Set the clock from the server's TIME. Raises ConnectionError with a reason."""
        asked_at = time.monotonic()
        try:
            async with asyncio.timeout(REPLY_TIMEOUT):
                self._clock.set(await connection.send("TIME"), asked_at)
        except (TimeoutError, ErrorReply) as error:
            raise ConnectionError(str(error) or "no answer") from None
        self._probes.record_answer()
