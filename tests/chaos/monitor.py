"""What Redis is doing right now, by MONITOR: to strike in the moment after a write."""

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
        """Return once a script that carries all of `what` has come through `link` and run."""
        while line := await self._reader.readline():
            client = CLIENT.search(line)
            ours = client is not None and link.carries(client[1].decode())
            if ours and b'"EVALSHA"' in line and all(word in line for word in what):
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
