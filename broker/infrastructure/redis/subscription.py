"""Subscriptions to Pub/Sub channels."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from redis.asyncio.connection import AbstractConnection

from broker.errors import Unavailable
from broker.infrastructure.redis.connection import REPLY_TIMEOUT, Reply, connect

MessageQueue = asyncio.Queue[bytes | None]
"""What a channel carries; None says that nothing more will come."""


class ChannelSubscription:
    """What one channel has carried and nobody has taken yet."""

    def __init__(self) -> None:
        self.feed: MessageQueue = asyncio.Queue()
        self.entered = asyncio.Event()

    def on_push(self, push: list[Reply] | None) -> None:
        kind = b"lost" if push is None else push[0]
        if kind in (b"message", b"smessage"):
            self.feed.put_nowait(push[2])  # type: ignore[index]
        elif kind in (b"subscribe", b"ssubscribe"):
            self.entered.set()
        else:  # the wire is lost, or the channel's slot has moved to another node
            self.entered.set()
            self.feed.put_nowait(None)


@asynccontextmanager
async def subscribe(
    make: Callable[[], AbstractConnection], verb: str, name: str
) -> AsyncIterator[MessageQueue]:
    """What the channel `name` carries, on a connection of its own; raises Unavailable."""
    channel = ChannelSubscription()
    try:
        wire = await connect(make, channel.on_push)
    except ConnectionError:
        raise Unavailable from None
    try:
        wire.subscribe(verb, name)
        async with asyncio.timeout(REPLY_TIMEOUT):
            await channel.entered.wait()
        yield channel.feed
    except TimeoutError:
        raise Unavailable from None
    finally:
        await wire.close()
