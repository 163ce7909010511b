"""Delivers the messages of clients to backends: one at a time for each tunnel, in order.

A tunnel has a queue and a task only while messages wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import TypeVar

from broker.errors import Unavailable
from broker.infrastructure.background import report, spawn
from broker.tunnels.closing import TunnelCloser
from broker.tunnels.inbox_queue import ClientMessage, MessageSource, TunnelInboxQueue
from broker.tunnels.model import (
    AWAY_TOO_LONG,
    CLOSED_BY_CLIENT,
    DRAINING,
    UNAVAILABLE,
    ClosedBy,
    CloseRequest,
    MessageAnswer,
    Opening,
    Tunnel,
)
from broker.tunnels.ports import (
    CallbackFailed,
    NumberedMessage,
    OpeningRefused,
    TunnelCallbacks,
    TunnelStores,
)

T = TypeVar("T")

RETRY_DELAYS = (0.1, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds before a number is taken again while the state is unavailable. A message survives an
outage of 15 s."""

CLOSE_TIMEOUT = 3.0
"""Seconds to wait for messages that wait when the process ends. Others are lost."""

FAILED = MessageAnswer(error=("temporarily_unavailable", "the backend is unavailable; try again"))


ENDS: Mapping[ClosedBy, CloseRequest] = {
    ClosedBy.CLIENT: CLOSED_BY_CLIENT,
    ClosedBy.NETWORK: AWAY_TOO_LONG,
    ClosedBy.DRAIN: DRAINING,
}
"""Code and reason of an end, by its cause."""


class TunnelInboxes:
    """Delivers messages.

    callbacks: by the `api` of a tunnel.
    """

    def __init__(
        self,
        *,
        stores: TunnelStores,
        callbacks: Mapping[str, TunnelCallbacks],
        closer: TunnelCloser,
    ) -> None:
        self._inboxes = stores.inboxes
        self._records = stores.records
        self._callbacks = callbacks
        self._closer = closer
        self._tasks: set[asyncio.Task[None]] = set()

    def put(self, source: MessageSource, message: ClientMessage) -> int:
        """Deliver a message after the earlier ones. Returns how many wait."""
        queue = source.queue
        if queue is None:
            queue = source.queue = TunnelInboxQueue()
            queue.append(message)
            queue.task = spawn("tunnel messages", self._deliver_all(source, queue))
            self._tasks.add(queue.task)
            queue.task.add_done_callback(self._tasks.discard)
        else:
            queue.append(message)
        return len(queue)

    async def close(self) -> None:
        """Wait up to `CLOSE_TIMEOUT` for all messages."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=CLOSE_TIMEOUT)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    async def _deliver_all(self, source: MessageSource, queue: TunnelInboxQueue) -> None:
        try:
            while (message := queue.first()) is not None:
                await self._handle(source, queue, message)
                queue.pop()
                source.on_handled(len(queue))
        finally:
            source.queue = None
        queue.end()

    async def _handle(
        self, source: MessageSource, queue: TunnelInboxQueue, message: ClientMessage
    ) -> None:
        try:
            if message.end is not None:
                await self._close(source, queue, message.end)
            elif message.opening is not None:
                await self._open(source, queue, message.opening)
            else:
                await self._deliver(source, queue, message)
        except Exception as error:  # does not affect the other messages
            report("tunnel messages", error)
            self._reply(source, message.id, FAILED)

    async def _deliver(
        self, source: MessageSource, queue: TunnelInboxQueue, message: ClientMessage
    ) -> None:
        try:
            numbered = await self._number(source, message.id)
        except Unavailable:
            self._reply(source, message.id, FAILED)
            return
        if numbered is None:
            queue.stop()
            source.check()
        elif numbered.reply is not None:
            source.send_reply(numbered.reply)
        else:
            await self._call(source, queue, message, numbered)

    async def _number(self, source: MessageSource, message_id: str) -> NumberedMessage | None:
        """Raises Unavailable after the last attempt."""
        return await _retry(
            lambda: self._inboxes.number(source.tunnel_id, source.attachment, message_id)
        )

    async def _is_attached(self, source: MessageSource) -> bool:
        """Return whether the tunnel still belongs to this socket, as far as the state can say."""
        try:
            tunnel = await _retry(lambda: self._records.get(source.tunnel_id))
        except Unavailable:
            return False
        return tunnel is not None and tunnel.attachment == source.attachment

    async def _call(
        self,
        source: MessageSource,
        queue: TunnelInboxQueue,
        message: ClientMessage,
        numbered: NumberedMessage,
    ) -> None:
        tunnel, seq = numbered.tunnel, numbered.seq

        async def may_repeat() -> bool:
            return not queue.is_stopped and await self._is_attached(source)

        try:
            answer = await self._callbacks[tunnel.api].message(
                tunnel, seq, message.data, message.id, may_repeat=may_repeat
            )
        except CallbackFailed:
            self._reply(source, message.id, FAILED)
            return
        if message.id:
            await self._settle(source, message.id, self._reply(source, message.id, answer))
        if answer.close is not None:
            await self._end(source, queue, tunnel, answer.close, ClosedBy.SERVER)

    def _reply(self, source: MessageSource, message_id: str, answer: MessageAnswer) -> bytes:
        if not message_id:
            return b""
        text = source.encode_reply(message_id, answer)
        source.send_reply(text)
        return text

    async def _settle(self, source: MessageSource, message_id: str, reply: bytes) -> None:
        """Without the stored reply, a repeat of the message goes to the backend again."""
        with suppress(Unavailable):
            await self._inboxes.settle(source.tunnel_id, message_id, reply)

    async def _open(self, source: MessageSource, queue: TunnelInboxQueue, opening: Opening) -> None:
        try:
            numbered = await self._number(source, "")
        except Unavailable:
            queue.stop()
            source.drop()
            return
        if numbered is None:
            queue.stop()
            source.check()
            return
        tunnel = numbered.tunnel
        try:
            await self._callbacks[tunnel.api].open(tunnel, numbered.seq, opening)
        except (CallbackFailed, OpeningRefused):
            await self._discard(source, queue, tunnel)

    async def _discard(
        self, source: MessageSource, queue: TunnelInboxQueue, tunnel: Tunnel
    ) -> None:
        """End a tunnel that the backend has not accepted."""
        queue.stop()
        try:
            await self._closer.discard(tunnel)
        except Unavailable:
            source.drop()
        else:
            source.end(UNAVAILABLE)

    async def _close(self, source: MessageSource, queue: TunnelInboxQueue, by: ClosedBy) -> None:
        """End the tunnel for its client. If the state is unavailable, it ends as an away one."""
        try:
            tunnel = await self._records.get(source.tunnel_id)
        except Unavailable:
            source.drop()
            return
        if tunnel is None or tunnel.attachment != source.attachment:
            source.check()
            return
        await self._end(source, queue, tunnel, ENDS[by], by)

    async def _end(
        self,
        source: MessageSource,
        queue: TunnelInboxQueue,
        tunnel: Tunnel,
        why: CloseRequest,
        by: ClosedBy,
    ) -> None:
        try:
            closed = await self._closer.end_silently(tunnel, why, by)
        except Unavailable:
            source.drop()
            return
        if closed is not None:
            queue.stop(lambda: self._closer.report(closed))
            source.end(why)


async def _retry(call: Callable[[], Awaitable[T]]) -> T:
    """Raises Unavailable if each attempt does."""
    for delay in RETRY_DELAYS:
        with suppress(Unavailable):
            return await call()
        await asyncio.sleep(delay)
    return await call()
