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

from broker.errors import Unavailable
from broker.infrastructure.background import BackgroundTask
from broker.infrastructure.codec import encode
from broker.infrastructure.coordination import Bus, Notice
from broker.infrastructure.redis import Redis, open_redis
from broker.infrastructure.redis.channels import channel_name, decode_notice
from broker.infrastructure.redis.subscription import MessageQueue

HEARTBEAT_INTERVAL = 1.0
"""Seconds between heartbeats."""

HEARTBEAT_TIMEOUT = 3.0
"""Seconds without a word after which nothing is heard any more."""

HEARTBEAT = Notice("heartbeat", "")


class HeartbeatReader:
    """Reads notices; ends after `HEARTBEAT_TIMEOUT` without a message.

    One timer that is set anew when it has run out: one for each notice would cost
    more than the notice.
    """

    def __init__(self, feed: MessageQueue) -> None:
        self._feed = feed
        self._loop = asyncio.get_running_loop()
        self._heard_at = self._loop.time()
        self._timer = self._loop.call_later(HEARTBEAT_TIMEOUT, self._check)

    async def read(self) -> bytes | None:
        """What comes next; None where nothing more will."""
        payload = await self._feed.get()
        self._heard_at = self._loop.time()
        return payload

    def close(self) -> None:
        self._timer.cancel()

    def _check(self) -> None:
        end = self._heard_at + HEARTBEAT_TIMEOUT
        if end <= self._loop.time():
            self._feed.put_nowait(None)
        else:
            self._timer = self._loop.call_at(end, self._check)


class RedisBus:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._listening: set[MessageQueue] = set()
        self._closed = False

    async def open(self) -> None:
        await self._redis.open()

    async def publish(self, instance: str, notice: Notice) -> None:
        await self._redis.publish(channel_name(instance), encode(notice))

    @asynccontextmanager
    async def listen(self, instance: str) -> AsyncIterator[AsyncIterator[Notice]]:
        async with self._redis.subscribe(channel_name(instance)) as feed:
            self._listening.add(feed)
            heart = BackgroundTask("bus heartbeat", partial(self._beat, instance))
            heart.start()
            ear = HeartbeatReader(feed)
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
            await asyncio.sleep(HEARTBEAT_INTERVAL)

    async def _notices(self, ear: HeartbeatReader) -> AsyncIterator[Notice]:
        while (payload := await ear.read()) is not None:
            notice = decode_notice(payload)
            if notice is not None and notice != HEARTBEAT:
                yield notice
        if not self._closed:
            raise Unavailable("nothing is heard on the bus")


def open_bus(url: str) -> Bus:
    return RedisBus(open_redis(url))
