"""Reads the commands of Redis by MONITOR, so that a fault can follow a write."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from tests.chaos.network_link import Link
from tests.support.servers.redis import RedisServer

CLIENT = re.compile(rb"\[\d+ ([^\]]+)\]")


class Monitor:
    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader

    async def write(self, what: Sequence[bytes], link: Link) -> None:
        """Return when a script with all words of `what` has arrived over `link` and has run."""
        while line := await self._reader.readline():
            client = CLIENT.search(line)
            is_from_link = client is not None and link.carries(client[1].decode())
            if is_from_link and b'"EVALSHA"' in line and all(word in line for word in what):
                return
        raise ConnectionError("Redis has ended")


@asynccontextmanager
async def monitoring(redis: RedisServer) -> AsyncIterator[Monitor]:
    reader, writer = await asyncio.open_connection("127.0.0.1", redis.port, limit=1 << 20)
    try:
        writer.write(b"MONITOR\r\n")
        yield Monitor(reader)
    finally:
        writer.close()
        await writer.wait_closed()
