"""Subscriptions to Pub/Sub channels."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from redis.asyncio.connection import AbstractConnection

from broker.errors import Unavailable
from broker.infrastructure.redis.connection import REPLY_TIMEOUT, Reply, connect

MessageQueue = asyncio.Queue[bytes | None]
"""The messages of a channel; None at the end."""


class ChannelSubscription:
    """The messages of one channel that are not read yet."""

    def __init__(self) -> None:
        self.messages: MessageQueue = asyncio.Queue()
        self.answered = asyncio.Event()

    def on_push(self, push: list[Reply] | None) -> None:
        kind = b"lost" if push is None else push[0]
        if kind in (b"message", b"smessage"):
            self.messages.put_nowait(push[2])  # type: ignore[index]
        elif kind in (b"subscribe", b"ssubscribe"):
            self.answered.set()
        else:  # the connection is lost, or the channel's slot has moved to another node
            self.answered.set()
            self.messages.put_nowait(None)


@asynccontextmanager
async def subscribe(
    make: Callable[[], AbstractConnection], command: str, channel: str
) -> AsyncIterator[MessageQueue]:
    """Subscribe to `channel` on a separate connection, and yield its messages.

    command: SUBSCRIBE or SSUBSCRIBE.
    Raises Unavailable.
    """
    subscription = ChannelSubscription()
    try:
        connection = await connect(make, subscription.on_push)
    except ConnectionError:
        raise Unavailable from None
    try:
        connection.subscribe(command, channel)
        await _wait_for_answer(subscription)
        yield subscription.messages
    finally:
        await connection.close()


async def _wait_for_answer(subscription: ChannelSubscription) -> None:
    try:
        async with asyncio.timeout(REPLY_TIMEOUT):
            await subscription.answered.wait()
    except TimeoutError:
        raise Unavailable from None
