"""A TCP proxy from one broker to its Redis that can simulate network faults."""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

Waiting = asyncio.Queue[tuple[float, bytes]]
"""Bytes in transit, with the time at which they are due."""


class Connection:
    """One connection through the link.

    drops_data: bytes of both directions are discarded until the connection closes.
        Lost bytes cannot be recovered, so this cannot be undone.
    """

    def __init__(self, link: Link, broker_side: StreamWriter, redis_side: StreamWriter) -> None:
        self._link = link
        self._ends = (broker_side, redis_side)
        self.drops_data = link.drops_data
        self.local_port: int = redis_side.get_extra_info("sockname")[1]

    def reset(self) -> None:
        for end in self._ends:
            end.transport.abort()

    async def carry(self, reader: StreamReader, writer: StreamWriter) -> None:
        waiting: Waiting = asyncio.Queue()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._take(reader, waiting))
            group.create_task(self._give(waiting, writer))

    async def _take(self, reader: StreamReader, waiting: Waiting) -> None:
        clock = asyncio.get_running_loop().time
        while chunk := await reader.read(65_536):
            if not self.drops_data:
                waiting.put_nowait((clock() + self._link.delay, chunk))
        waiting.put_nowait((clock(), b""))

    async def _give(self, waiting: Waiting, writer: StreamWriter) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            due, chunk = await waiting.get()
            await asyncio.sleep(max(0, due - clock()))
            if not chunk:
                raise ConnectionResetError
            writer.write(chunk)
            await writer.drain()


class Link:
    """A proxy to a Redis.

    delay: seconds that bytes take in each direction.
    refuses: new connections are reset.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self.delay = 0.0
        self.refuses = False
        self.drops_data = False
        self._target = target
        self._connections: set[Connection] = set()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def reset(self) -> None:
        for connection in list(self._connections):
            connection.reset()

    def half_open(self) -> None:
        """Discard all bytes from now on. Connections stay open, and new ones are accepted."""
        self.drops_data = True
        for connection in self._connections:
            connection.drops_data = True

    def restore(self) -> None:
        """End all faults of new connections. Connections that drop data keep doing so."""
        self.drops_data = self.refuses = False
        self.delay = 0.0

    def carries(self, address: str) -> bool:
        """Return whether the client `address` of Redis is a connection of this link."""
        return any(address == f"127.0.0.1:{one.local_port}" for one in self._connections)

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            inward, outward = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        connection = Connection(self, writer, outward)
        self._connections.add(connection)
        try:
            if not self.refuses:
                async with asyncio.TaskGroup() as group:
                    group.create_task(connection.carry(reader, outward))
                    group.create_task(connection.carry(inward, writer))
        except* OSError:
            pass  # if one side closes, the other is reset
        finally:
            self._connections.discard(connection)
            connection.reset()


@asynccontextmanager
async def open_link(target: int) -> AsyncIterator[Link]:
    """A link to `target` on a free port."""
    link = Link(target)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(link.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    link.port = server.sockets[0].getsockname()[1]
    try:
        yield link
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
