"""A bus over Redis Pub/Sub.

Each instance has one channel, so the cost of a notice does not depend on the number of
instances. Each instance also sends itself a heartbeat every second. If it receives nothing for
3 s, its subscription is dead, even if the connection looks open. `listen` then raises
`Unavailable`; the caller subscribes again and reads missed changes from the state.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

from broker.errors import Unavailable
from broker.infrastructure.background import BackgroundTask
from broker.infrastructure.coordination import Bus, Notice
from broker.infrastructure.redis import Redis, open_redis
from broker.infrastructure.redis.channels import channel_name, decode_notice, encode_notice
from broker.infrastructure.redis.subscription import MessageQueue

HEARTBEAT_INTERVAL = 1.0
"""Seconds between heartbeats."""

HEARTBEAT_TIMEOUT = 3.0
"""Seconds without a message after which the subscription counts as lost."""

HEARTBEAT = Notice("heartbeat", "")


class HeartbeatReader:
    """Reads messages, and ends after `HEARTBEAT_TIMEOUT` without one.

    It has one timer, which it starts again when it fires. A timer for each message would cost
    more than the message.
    """

    def __init__(self, messages: MessageQueue) -> None:
        self._messages = messages
        self._loop = asyncio.get_running_loop()
        self._received_at = self._loop.time()
        self._timer = self._loop.call_later(HEARTBEAT_TIMEOUT, self._check)

    async def read(self) -> bytes | None:
        """Return the next message; None at the end."""
        payload = await self._messages.get()
        self._received_at = self._loop.time()
        return payload

    def close(self) -> None:
        self._timer.cancel()

    def _check(self) -> None:
        deadline = self._received_at + HEARTBEAT_TIMEOUT
        if deadline <= self._loop.time():
            self._messages.put_nowait(None)
        else:
            self._timer = self._loop.call_at(deadline, self._check)


class RedisBus:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._listening: set[MessageQueue] = set()
        self._closed = False

    async def open(self) -> None:
        await self._redis.open()

    async def publish(self, instance: str, notice: Notice) -> None:
        await self._redis.publish(channel_name(instance), encode_notice(notice))

    @asynccontextmanager
    async def listen(self, instance: str) -> AsyncIterator[AsyncIterator[Notice]]:
        async with self._redis.subscribe(channel_name(instance)) as messages:
            self._listening.add(messages)
            heartbeat = BackgroundTask("bus heartbeat", partial(self._send_heartbeats, instance))
            heartbeat.start()
            reader = HeartbeatReader(messages)
            try:
                yield self._notices(reader)
            finally:
                reader.close()
                await heartbeat.stop()
                self._listening.discard(messages)

    async def close(self) -> None:
        self._closed = True
        for messages in self._listening:
            messages.put_nowait(None)
        await self._redis.close()

    async def _send_heartbeats(self, instance: str) -> None:
        while True:
            with suppress(Unavailable):
                await self.publish(instance, HEARTBEAT)
            await asyncio.sleep(HEARTBEAT_INTERVAL)

    async def _notices(self, reader: HeartbeatReader) -> AsyncIterator[Notice]:
        while (payload := await reader.read()) is not None:
            notice = decode_notice(payload)
            if notice is not None and notice != HEARTBEAT:
                yield notice
        if not self._closed:
            raise Unavailable("the subscription to the bus is lost")


def open_bus(url: str) -> Bus:
    return RedisBus(open_redis(url, "bus"))
