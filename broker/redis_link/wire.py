"""One live connection to a server, on which commands follow each other without waiting."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from broker.errors import Unavailable
from broker.metrics import STATE_REFUSES
from broker.outage import Outage
from broker.redis_link.memory import Memory

PROBE = 1.0
"""Seconds between two questions that show whether the server is still there."""

SILENCE = 2.0
"""Seconds after which a server that does not answer is taken for gone.  TCP alone
notices after 45 s what a half-open link has swallowed (redis-py's keepalive)."""

DOWNTIME_MIN = PROBE + SILENCE
"""Seconds without an answered probe after which the server counts as down."""

PROBE_MAX_AGE = 2 * (PROBE + SILENCE)
"""Seconds after which the last answered probe expires."""

REFUSAL_QUIET_TIME = 5.0
"""Seconds without a refusal after which commands count as accepted again."""

CONNECT_WITHIN = 2.0
"""Seconds for a connection with its handshake, Sentinel's answer included."""

ELSEWHERE = ("READONLY", "LOADING", "MASTERDOWN")
"""Replies of a server that is not, or not yet, the one to ask: connect anew."""

NOT_NOW = (*ELSEWHERE, "CLUSTERDOWN", "TRYAGAIN", "MISCONF", "NOREPLICAS", "OOM", "BUSY", "NOPERM")
"""Replies that are no answer to the command."""

Part = bytes | str | int
Reply = Any
"""What hiredis makes of a reply: bytes, int, None, or a list of such."""

NOTHING = object()
"""What hiredis says when it has no whole reply yet."""

_pack: Callable[[tuple[Part, ...]], bytes] = hiredis.pack_command  # type: ignore[assignment]

Hear = Callable[[list[Reply] | None], None]

Feed = asyncio.Queue[bytes | None]
"""What a channel carries; None says that nothing more will come."""


class ServerSaid(Exception):
    """An error reply."""

    @property
    def word(self) -> str:
        # Redis before 7 says what a script met behind words of its own.
        return str(self).rpartition(": -")[2].partition(" ")[0]


class Refusals:
    """Commands and writes that the server refuses, as opposed to an unreachable server.

    One outage is logged once for all its commands.

    writes_refused_by: the error word of the last write probe, such as OOM; None if it succeeded.
    """

    def __init__(self) -> None:
        self._outage = Outage("redis refuses commands", "redis accepts commands again")
        self._refused_at = -REFUSAL_QUIET_TIME
        self.writes_refused_by: str | None = None

    def meant(self, said: ServerSaid) -> Exception:
        """Return the error for a caller: Unavailable, or `said` for a fault of the broker."""
        if said.word not in NOT_NOW:
            return said
        self._refused(said)
        return Unavailable()

    def of_memory(self, said: ServerSaid) -> list[Memory]:
        """What a refused INFO says of the server's memory: nothing, if it has none or forbids it.

        Raises Unavailable if the server cannot answer at present.
        """
        if said.word not in NOT_NOW or said.word == "NOPERM":  # such as an unknown command
            return []
        raise self.meant(said) from None

    def probed(self, refusal: ServerSaid | None) -> None:
        """Record the outcome of a write probe; None if it succeeded."""
        self.writes_refused_by = None if refusal is None else refusal.word
        STATE_REFUSES.set(refusal is not None)
        if refusal is not None:
            self._refused(refusal)
        elif time.monotonic() - self._refused_at >= REFUSAL_QUIET_TIME:
            self._outage.is_over()

    def _refused(self, said: ServerSaid) -> None:
        self._refused_at = time.monotonic()
        self._outage.fails(str(said))


class Script(NamedTuple):
    """A Lua script and the SHA-1 that the server knows it by."""

    text: str
    sha: str


def script(text: str) -> Script:
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


class SharedTime:
    """A clock that a server sets.  Until it has, it is this machine's own.

    Instances whose own clocks differ by minutes agree on when a login ends.
    """

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def __call__(self) -> float:
        return time.monotonic() + self._offset

    def set(self, reply: Sequence[bytes], asked_at: float) -> None:
        """Go by a reply to TIME (seconds, microseconds) to what was asked at monotonic time."""
        seconds, microseconds = (int(part) for part in reply)
        midway = (asked_at + time.monotonic()) / 2
        self._offset = seconds + microseconds / 1e6 - midway


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


def write_probe(key: str) -> tuple[Part, ...]:
    """A command that Redis refuses if it refuses writes; it changes nothing, as no key exists."""
    return ("SET", key, "", "XX")


def outage() -> Outage:
    return Outage("redis cannot be reached", "redis is back")


class Wire(asyncio.Protocol):
    """One live connection.  Once lost it stays lost, and whoever waits for a reply hears so.

    hear: gets what the server sends unasked (RESP3 pushes); None once the wire is lost.
    """

    def __init__(self, connection: AbstractConnection, hear: Hear | None = None) -> None:
        # redis-py has no public way to take a connection over; a test pins what is used here.
        self._connection = connection
        self._transport: Any = connection._writer.transport  # type: ignore[union-attr]
        self._hear = hear or (lambda push: None)
        self._replies = hiredis.Reader(notEnoughData=NOTHING, replyError=ServerSaid)
        self._waiting: deque[asyncio.Future[Reply]] = deque()
        self._out: list[bytes] = []
        self.lost = asyncio.Event()
        self._gone = asyncio.Event()
        self._transport.set_protocol(self)

    def send(self, *command: Part) -> asyncio.Future[Reply]:
        """Send a command, together with what else is sent in this turn of the loop.

        Its reply comes with the future, or ServerSaid, or ConnectionError.
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
            while (reply := self._replies.gets()) is not NOTHING:
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
        if isinstance(reply, ServerSaid):
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
async def within(seconds: float) -> AsyncIterator[None]:
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


async def wired(make: Callable[[], AbstractConnection], hear: Hear | None = None) -> Wire:
    """A fresh connection as a wire; raises ConnectionError, which says what is wrong."""
    connection = make()
    try:
        async with within(CONNECT_WITHIN):
            await connection.connect()  # type: ignore[no-untyped-call]
    except (RedisError, OSError, TimeoutError) as error:
        connection._close()  # type: ignore[no-untyped-call]
        raise ConnectionError(str(error) or "no answer") from None
    except BaseException:
        connection._close()  # type: ignore[no-untyped-call]
        raise
    return Wire(connection, hear)


class Channel:
    """What one channel has carried and nobody has taken yet."""

    def __init__(self) -> None:
        self.feed: Feed = asyncio.Queue()
        self.entered = asyncio.Event()

    def hear(self, push: list[Reply] | None) -> None:
        kind = b"lost" if push is None else push[0]
        if kind in (b"message", b"smessage"):
            self.feed.put_nowait(push[2])  # type: ignore[index]
        elif kind in (b"subscribe", b"ssubscribe"):
            self.entered.set()
        else:  # the wire is lost, or the channel's slot has moved to another node
            self.entered.set()
            self.feed.put_nowait(None)


@asynccontextmanager
async def subscribed(
    make: Callable[[], AbstractConnection], verb: str, name: str
) -> AsyncIterator[Feed]:
    """What the channel `name` carries, on a connection of its own; raises Unavailable."""
    channel = Channel()
    try:
        wire = await wired(make, channel.hear)
    except ConnectionError:
        raise Unavailable from None
    try:
        wire.subscribe(verb, name)
        async with asyncio.timeout(SILENCE):
            await channel.entered.wait()
        yield channel.feed
    except TimeoutError:
        raise Unavailable from None
    finally:
        await wire.close()
