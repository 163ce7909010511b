"""The virus scanner ClamAV, by the command INSTREAM of its daemon.

A session is `zINSTREAM\\0`, then chunks with their length before them as 4 bytes in network order,
then a length of 0. The daemon answers `stream: OK`, or `stream: <name> FOUND` (clamd(8)).
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from broker.files.errors import InfectedFile, ScannerUnavailable

SCAN_TIMEOUT = 10.0
"""Seconds for the connection, for each write, and for the verdict."""

ANSWER_MAX_BYTES = 1_024

LIMIT_ADVICE = "compare its StreamMaxLength with the largest file"


class ClamdScanner:
    """socket: the path of the daemon's Unix socket."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def open(self) -> ClamdScan:
        reader, writer = await self._connect()
        writer.write(b"zINSTREAM\0")
        return ClamdScan(reader, writer)

    async def ping(self) -> None:
        """Raises ScannerUnavailable if the daemon does not answer."""
        reader, writer = await self._connect()
        try:
            with _failures("ping"):
                async with asyncio.timeout(SCAN_TIMEOUT):
                    writer.write(b"zPING\0")
                    answer = await reader.readuntil(b"\0")
        finally:
            writer.close()
        if answer != b"PONG\0":
            raise ScannerUnavailable("clamd: ping: unexpected answer")

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        with _failures("connect"):
            async with asyncio.timeout(SCAN_TIMEOUT):
                return await asyncio.open_unix_connection(self._socket, limit=ANSWER_MAX_BYTES)


class ClamdScan:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def write(self, data: bytes) -> None:
        if not data:  # a length of 0 would end the stream
            return
        with _failures("write"):
            async with asyncio.timeout(SCAN_TIMEOUT):
                self._writer.write(struct.pack("!I", len(data)) + data)
                await self._writer.drain()

    async def finish(self) -> None:
        with _failures("read the verdict"):
            async with asyncio.timeout(SCAN_TIMEOUT):
                self._writer.write(struct.pack("!I", 0))
                await self._writer.drain()
                answer = await self._reader.readuntil(b"\0")
        if answer.endswith(b" FOUND\0"):
            raise InfectedFile
        if answer != b"stream: OK\0":  # such as the daemon's limit of a stream
            raise ScannerUnavailable(f"clamd gave no verdict; {LIMIT_ADVICE}")

    def close(self) -> None:
        self._writer.close()


@contextmanager
def _failures(act: str) -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise ScannerUnavailable(f"clamd: {act}: no answer in time") from None
    except (BrokenPipeError, ConnectionResetError):  # the daemon closes a stream that is too long
        raise ScannerUnavailable(f"clamd: {act}: connection closed; {LIMIT_ADVICE}") from None
    except (OSError, EOFError, asyncio.LimitOverrunError) as error:
        raise ScannerUnavailable(f"clamd: {act}: {type(error).__name__}") from None
