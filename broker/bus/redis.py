"""The bus over Redis Pub/Sub: one channel an instance, so a notice costs the same at any size.

Each instance also sends itself a heartbeat through the bus every second.  Who
misses three is deaf, whatever its connection looks like (a half-open link says
nothing), and `listen` ends with `Unavailable`: subscribe afresh, and ask the
state what has been missed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

from broker.background import BackgroundTask
from broker.bus import Bus
from broker.errors import Unavailable
from broker.login import Notice
from broker.packing import pack, unpacker
from broker.redis_link import Feed, Redis, channel_of, open_redis

BEAT = 1.0
"""Seconds between heartbeats."""

DEAF = 3.0
"""Seconds without a word after which nothing is heard any more."""

HEARTBEAT = Notice("heartbeat", "")

_notice = unpacker(Notice)


class Ear:
    """What a listener hears, and a timer that ends it once it has heard nothing for `DEAF`.

    One timer that is set anew when it has run out: one for each notice would cost
    more than the notice.
    """

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._loop = asyncio.get_running_loop()
        self._heard_at = self._loop.time()
        self._timer = self._loop.call_later(DEAF, self._check)

    async def hear(self) -> bytes | None:
        """What comes next; None where nothing more will."""
        payload = await self._feed.get()
        self._heard_at = self._loop.time()
        return payload

    def close(self) -> None:
        self._timer.cancel()

    def _check(self) -> None:
        end = self._heard_at + DEAF
        if end <= self._loop.time():
            self._feed.put_nowait(None)
        else:
            self._timer = self._loop.call_at(end, self._check)


class RedisBus:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._listening: set[Feed] = set()
        self._closed = False

    async def open(self) -> None:
        await self._redis.open()

    async def publish(self, instance: str, notice: Notice) -> None:
        await self._redis.publish(channel_of(instance), pack(notice))

    @asynccontextmanager
    async def listen(self, instance: str) -> AsyncIterator[AsyncIterator[Notice]]:
        async with self._redis.subscribed(channel_of(instance)) as feed:
            self._listening.add(feed)
            heart = BackgroundTask("bus heartbeat", partial(self._beat, instance))
            heart.start()
            ear = Ear(feed)
            try:
                yield self._notices(ear)
            finally:
                ear.close()
                await heart.stop()
                self._listening.discard(feed)

    async def close(self) -> None:
        self._closed = True
        for feed in self._listening:
            feed.put_nowait(None)
        await self._redis.close()

    async def _beat(self, instance: str) -> None:
        while True:
            with suppress(Unavailable):
                await self.publish(instance, HEARTBEAT)
            await asyncio.sleep(BEAT)

    async def _notices(self, ear: Ear) -> AsyncIterator[Notice]:
        while (payload := await ear.hear()) is not None:
            notice = _read(payload)
            if notice is not None and notice != HEARTBEAT:
                yield notice
        if not self._closed:
            raise Unavailable("nothing is heard on the bus")


def _read(payload: bytes) -> Notice | None:
    """The notice, or None for what is none: anybody with the server's password can send."""
    try:
        return _notice(payload)
    except (ValueError, RecursionError):
        return None


def open_bus(url: str) -> Bus:
    return RedisBus(open_redis(url))
