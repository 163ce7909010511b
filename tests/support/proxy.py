"""A TCP proxy to the broker that can reset connections, and block or delay WebSockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Proxy:
    """A TCP proxy.

    holds: WebSocket upgrades delayed so far.
    held: WebSocket upgrades delayed now.
    """

    def __init__(self, *, blocks_websockets: bool = False) -> None:
        self.port = 0
        self._target = 0
        self.blocks_websockets = blocks_websockets
        self.holds = 0
        self.held = 0
        self._pass = asyncio.Event()
        self._pass.set()
        self._is_cut = False
        self._links: set[asyncio.StreamWriter] = set()

    def lead_to(self, port: int) -> None:
        self._target = port

    def cut(self) -> None:
        """Reset every connection, and accept none until `restore`."""
        self._is_cut = True
        for link in list(self._links):
            link.transport.abort()

    def restore(self) -> None:
        self._is_cut = False

    def hold_websockets(self) -> None:
        """Leave upgrade requests without an answer until `pass_websockets`."""
        self._pass.clear()

    def pass_websockets(self) -> None:
        self._pass.set()

    async def _hold(self, reader: asyncio.StreamReader) -> bytes:
        """Return the data that the client sends meanwhile; raises OSError if it disconnects."""
        self.holds += 1
        self.held += 1
        passing = asyncio.create_task(self._pass.wait())
        read = asyncio.create_task(reader.read(65_536))
        try:
            await asyncio.wait({passing, read}, return_when=asyncio.FIRST_COMPLETED)
            if read.done() and not read.result():
                raise ConnectionResetError
            return read.result() if read.done() else b""
        finally:
            self.held -= 1
            passing.cancel()
            read.cancel()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward a connection. It is closed at the end, also if the task is cancelled."""
        try:
            await self._forward(reader, writer)
        except OSError:
            pass
        finally:
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.read(65_536)
        if self._is_cut or (self.blocks_websockets and b"transport=websocket" in first):
            return
        if not self._pass.is_set() and b"transport=websocket" in first:
            first += await self._hold(reader)
        inward, outward = await asyncio.open_connection("127.0.0.1", self._target)
        outward.write(first)
        self._links |= {writer, outward}
        try:
            await asyncio.gather(copy(reader, outward), copy(inward, writer))
        finally:
            self._links -= {writer, outward}
            outward.transport.abort()


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(65_536):
            writer.write(chunk)
            await writer.drain()
    except OSError:
        pass
    writer.close()


@asynccontextmanager
async def proxying(*, blocks_websockets: bool = False) -> AsyncIterator[Proxy]:
    """A proxy on a free port; `lead_to` sets its target."""
    proxy = Proxy(blocks_websockets=blocks_websockets)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(proxy.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
