"""One connection to a server, on which commands are sent without waiting for replies."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from broker.infrastructure.redis.scripts import CommandPart

REPLY_TIMEOUT = 2.0
"""Seconds without a reply after which the server counts as lost. TCP alone notices a half-open
connection after 45 s (the keepalive of redis-py)."""

CONNECT_TIMEOUT = 2.0
"""Seconds for a connection with its handshake, Sentinel's answer included."""

Reply = Any
"""A reply as hiredis decodes it: bytes, int, None, or a list of these."""

INCOMPLETE = object()
"""Returned by hiredis if it has no complete reply."""

_pack: Callable[[tuple[CommandPart, ...]], bytes] = hiredis.pack_command  # type: ignore[assignment]

PushHandler = Callable[[list[Reply] | None], None]
"""Receives the messages that the server sends without a request (RESP3 pushes), and None once
the connection is lost."""


class ErrorReply(Exception):
    """An error reply."""

    @property
    def code(self) -> str:
        """The first word of the error, such as OOM."""
        # Redis before version 7 puts its own text before an error inside a script.
        return str(self).rpartition(": -")[2].partition(" ")[0]


class RedisConnection(asyncio.Protocol):
    """One connection. It never reconnects; once it is lost, pending commands fail.

    The commands of one turn of the event loop are sent together.
    """

    def __init__(self, connection: AbstractConnection, on_push: PushHandler | None = None) -> None:
        # redis-py has no public way to take over a connection; a test checks these attributes.
        self._connection = connection
        self._transport: Any = connection._writer.transport  # type: ignore[union-attr]
        self._loop = asyncio.get_running_loop()
        self._on_push = on_push or (lambda push: None)
        self._parser = hiredis.Reader(notEnoughData=INCOMPLETE, replyError=ErrorReply)
        self._pending: deque[asyncio.Future[Reply]] = deque()
        self._unsent: list[bytes] = []
        self.lost = asyncio.Event()
        self._is_closed = asyncio.Event()
        self._transport.set_protocol(self)

    def send(self, *command: CommandPart) -> asyncio.Future[Reply]:
        """Send a command and return the future of its reply.

        The future raises ErrorReply for an error reply, and ConnectionError if the connection
        is lost.
        """
        reply: asyncio.Future[Reply] = self._loop.create_future()
        if self.lost.is_set():
            reply.set_exception(ConnectionError())
            return reply
        self._pending.append(reply)
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(_pack(command))
        return reply

    def subscribe(self, command: str, channel: str) -> None:
        """Send SUBSCRIBE or SSUBSCRIBE. The server confirms it by a push, not by a reply."""
        self._transport.write(_pack((command, channel)))

    def abort(self) -> None:
        """Close the connection at once."""
        self._transport.abort()
        self._fail_pending()

    async def close(self) -> None:
        """Close the connection, and return once the event loop has closed the socket."""
        self.abort()
        await self._is_closed.wait()

    def _flush(self) -> None:
        commands, self._unsent = self._unsent, []
        if not self.lost.is_set():
            self._transport.write(b"".join(commands))

    def data_received(self, data: bytes) -> None:
        self._parser.feed(data)
        try:
            while (reply := self._parser.gets()) is not INCOMPLETE:
                self._dispatch(reply)
        except hiredis.ProtocolError:
            self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._is_closed.set()
        self._fail_pending()

    def _dispatch(self, reply: Reply) -> None:
        if isinstance(reply, hiredis.PushNotification):
            self._on_push(reply)
            return
        if not self._pending:  # a subscription was refused
            self.abort()
            return
        future = self._pending.popleft()
        if future.done():  # the caller was cancelled
            return
        if isinstance(reply, ErrorReply):
            future.set_exception(reply)
        else:
            future.set_result(reply)

    def _fail_pending(self) -> None:
        if self.lost.is_set():
            return
        self.lost.set()
        self._connection._close()  # type: ignore[no-untyped-call]
        self._on_push(None)
        while self._pending:
            future = self._pending.popleft()
            if not future.done():
                future.set_exception(ConnectionError())


@asynccontextmanager
async def hard_timeout(seconds: float) -> AsyncIterator[None]:
    """Limit the time of a call into redis-py. Raises TimeoutError.

    redis-py 8.1 may swallow a cancellation, of this limit or of another caller, and then
    continue or raise another error. This block raises the cancellation again.
    """
    async with asyncio.timeout(seconds):
        try:
            yield
        finally:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise asyncio.CancelledError


async def connect(
    make: Callable[[], AbstractConnection], on_push: PushHandler | None = None
) -> RedisConnection:
    """Open a connection. Raises ConnectionError with a reason.

    make: creates a redis-py connection that is not open.
    """
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
    return RedisConnection(connection, on_push)
