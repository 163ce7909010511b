"""One live connection to a server, on which commands follow each other without waiting."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from broker.errors import Unavailable
from broker.infrastructure.observability.metrics import Gauge
from broker.infrastructure.observability.outage import OutageLog
from broker.infrastructure.redis.memory_policy import Memory
from broker.infrastructure.redis.scripts import CommandPart

PING_INTERVAL = 1.0
"""Seconds between two questions that show whether the server is still there."""

REPLY_TIMEOUT = 2.0
"""Seconds after which a server that does not answer is taken for gone.  TCP alone
notices after 45 s what a half-open link has swallowed (redis-py's keepalive)."""

DOWNTIME_MIN = PING_INTERVAL + REPLY_TIMEOUT
"""Seconds without an answered probe after which the server counts as down."""

PROBE_MAX_AGE = 2 * (PING_INTERVAL + REPLY_TIMEOUT)
"""Seconds after which the last answered probe expires."""

REFUSAL_QUIET_TIME = 5.0
"""Seconds without a refusal after which commands count as accepted again."""

CONNECT_TIMEOUT = 2.0
"""Seconds for a connection with its handshake, Sentinel's answer included."""

WRONG_SERVER_REPLIES = ("READONLY", "LOADING", "MASTERDOWN")
"""Replies of a server that is not, or not yet, the one to ask: connect anew."""

UNAVAILABLE_REPLIES = (
    *WRONG_SERVER_REPLIES,
    "CLUSTERDOWN",
    "TRYAGAIN",
    "MISCONF",
    "NOREPLICAS",
    "OOM",
    "BUSY",
    "NOPERM",
)
"""Replies that are no answer to the command."""

Reply = Any
"""What hiredis makes of a reply: bytes, int, None, or a list of such."""

INCOMPLETE = object()
"""What hiredis says when it has no whole reply yet."""

_pack: Callable[[tuple[CommandPart, ...]], bytes] = hiredis.pack_command  # type: ignore[assignment]

PushHandler = Callable[[list[Reply] | None], None]


class ErrorReply(Exception):
    """An error reply."""

    @property
    def code(self) -> str:
        # Redis before 7 says what a script met behind words of its own.
        return str(self).rpartition(": -")[2].partition(" ")[0]


class Refusals:
    """Commands and writes that the server refuses, as opposed to an unreachable server.

    One outage is logged once for all its commands.

    writes_refused_by: the error word of the last write probe, such as OOM; None if it succeeded.
    """

    def __init__(self) -> None:
        self._outage = OutageLog("redis refuses commands", "redis accepts commands again")
        self._refused_at = -REFUSAL_QUIET_TIME
        self.writes_refused_by: str | None = None

    def meant(self, said: ErrorReply) -> Exception:
        """Return the error for a caller: Unavailable, or `said` for a fault of the broker."""
        if said.code not in UNAVAILABLE_REPLIES:
            return said
        self._refused(said)
        return Unavailable()

    def of_memory(self, said: ErrorReply) -> list[Memory]:
        """What a refused INFO says of the server's memory: nothing, if it has none or forbids it.

        Raises Unavailable if the server cannot answer at present.
        """
        if (
            said.code not in UNAVAILABLE_REPLIES or said.code == "NOPERM"
        ):  # such as an unknown command
            return []
        raise self.meant(said) from None

    def probed(self, refusal: ErrorReply | None) -> None:
        """Record the outcome of a write probe; None if it succeeded."""
        self.writes_refused_by = None if refusal is None else refusal.code
        STATE_REFUSES.set(refusal is not None)
        if refusal is not None:
            self._refused(refusal)
        elif time.monotonic() - self._refused_at >= REFUSAL_QUIET_TIME:
            self._outage.recovered()

    def _refused(self, said: ErrorReply) -> None:
        self._refused_at = time.monotonic()
        self._outage.failed(str(said))


class Probes:
    """When the server last answered a probe."""

    def __init__(self) -> None:
        self._answered_at = -PROBE_MAX_AGE

    def answered(self) -> None:
        self._answered_at = time.monotonic()

    def trouble(self) -> str | None:
        """Why the last answer is too old; None while it is recent."""
        if time.monotonic() - self._answered_at > PROBE_MAX_AGE:
            return "redis has not answered a recent probe"
        return None


def write_probe(key: str) -> tuple[CommandPart, ...]:
    """A command that Redis refuses if it refuses writes; it changes nothing, as no key exists."""
    return ("SET", key, "", "XX")


def redis_outage_log() -> OutageLog:
    return OutageLog("redis cannot be reached", "redis is back")


class RedisConnection(asyncio.Protocol):
    """One live connection.  Once lost it stays lost, and whoever waits for a reply hears so.

    hear: gets what the server sends unasked (RESP3 pushes); None once the wire is lost.
    """

    def __init__(self, connection: AbstractConnection, hear: PushHandler | None = None) -> None:
        # redis-py has no public way to take a connection over; a test pins what is used here.
        self._connection = connection
        self._transport: Any = connection._writer.transport  # type: ignore[union-attr]
        self._hear = hear or (lambda push: None)
        self._replies = hiredis.Reader(notEnoughData=INCOMPLETE, replyError=ErrorReply)
        self._waiting: deque[asyncio.Future[Reply]] = deque()
        self._out: list[bytes] = []
        self.lost = asyncio.Event()
        self._gone = asyncio.Event()
        self._transport.set_protocol(self)

    def send(self, *command: CommandPart) -> asyncio.Future[Reply]:
        """Send a command, together with what else is sent in this turn of the loop.

        Its reply comes with the future, or ErrorReply, or ConnectionError.
        """
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Reply] = loop.create_future()
        if self.lost.is_set():
            reply.set_exception(ConnectionError())
            return reply
        self._waiting.append(reply)
        if not self._out:
            loop.call_soon(self._flush)
        self._out.append(_pack(command))
        return reply

    def subscribe(self, verb: str, channel: str) -> None:
        """What the server says to it comes as a push, so nothing waits for a reply."""
        self._transport.write(_pack((verb, channel)))

    def abort(self) -> None:
        self._transport.abort()
        self._lose()

    async def close(self) -> None:
        """Let go of the connection, and return when the loop has."""
        self.abort()
        await self._gone.wait()

    def _flush(self) -> None:
        out, self._out = self._out, []
        if not self.lost.is_set():
            self._transport.write(b"".join(out))

    def data_received(self, data: bytes) -> None:
        self._replies.feed(data)
        try:
            while (reply := self._replies.gets()) is not INCOMPLETE:
                self._take(reply)
        except hiredis.ProtocolError:
            self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._gone.set()
        self._lose()

    def _take(self, reply: Reply) -> None:
        if isinstance(reply, hiredis.PushNotification):
            self._hear(reply)
            return
        if not self._waiting:  # a subscription was refused
            self.abort()
            return
        future = self._waiting.popleft()
        if future.done():  # whoever asked has gone
            return
        if isinstance(reply, ErrorReply):
            future.set_exception(reply)
        else:
            future.set_result(reply)

    def _lose(self) -> None:
        if self.lost.is_set():
            return
        self.lost.set()
        self._connection._close()  # type: ignore[no-untyped-call]
        self._hear(None)
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(ConnectionError())


@asynccontextmanager
async def hard_timeout(seconds: float) -> AsyncIterator[None]:
    """A time limit for what redis-py does, raises TimeoutError.

    redis-py 8.1 may swallow a cancellation, the limit's and others', and go on or raise
    something else: not so its caller.
    """
    async with asyncio.timeout(seconds):
        try:
            yield
        finally:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise asyncio.CancelledError


async def connect(
    make: Callable[[], AbstractConnection], hear: PushHandler | None = None
) -> RedisConnection:
    """A fresh connection as a wire; raises ConnectionError, which says what is wrong."""
    connection = make()
    try:
        async with hard_timeout(CONNECT_TIMEOUT):
            await connection.connect()  # type: ignore[no-untyped-call]
    except (RedisError, OSError, TimeoutError) as error:
        connection._close()  # type: ignore[no-untyped-call]
        raise ConnectionError(str(error) or "no answer") from None
    except BaseException:
        connection._close()  # type: ignore[no-untyped-call]
        raise
    return RedisConnection(connection, hear)


STATE_REFUSES = Gauge("scanlogin_state_refuses_writes", "1 while Redis refuses writes, else 0")
