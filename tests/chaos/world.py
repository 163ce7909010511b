"""The brokers that a fault strikes: real processes, which can be ended and started again."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tests.chaos.network_link import Link, linked
from tests.support.environment import free_port
from tests.support.servers.redis import RedisServer
from tests.support.waiting import eventually

START_WITHIN = 20.0
"""Seconds that a broker gets to listen: the machine may be busy."""

END_WITHIN = 20.0
"""Seconds that a broker gets to end after SIGTERM."""

NOTICED_AFTER = 1.0
"""Seconds until a load balancer knows that an instance drains."""

NO_LIMITS = {
    "SCAN_LOGIN_BEGINS_PER_MINUTE": "1000000",
    "SCAN_LOGIN_MISSES_PER_MINUTE": "1000000",
    "SCAN_LOGIN_SOCKET_PACKETS_PER_MINUTE": "1000000",
    "SCAN_LOGIN_ADDRESS_PACKETS_PER_MINUTE": "1000000000",
    "SCAN_LOGIN_POLLING_SESSIONS_PER_ADDRESS": "1000000",
}
"""All people of a test come from one address."""


class Instance:
    """One broker process under a name and an address that it keeps.

    before: words before the command, such as `ip netns exec …`.
    link: what leads to its Redis, where that goes through one.
    serving: whether the load balancer, if there were one, would send anybody there.
    """

    def __init__(
        self,
        name: str,
        *,
        folder: Path,
        state_url: str,
        link: Link | None = None,
        host: str = "127.0.0.1",
        before: Sequence[str] = (),
        variables: dict[str, str] | None = None,
    ) -> None:
        self.name = name
        self.host = host
        self.port = free_port()
        self.log = folder / f"{name}.log"
        self.serving = False
        self._link = link
        self._command = [*before, sys.executable, "-m", "broker", "serve"]
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._variables = {
            **NO_LIMITS,
            "SCAN_LOGIN_INSTANCE": name,
            "SCAN_LOGIN_HOST": host,
            "SCAN_LOGIN_PORT": str(self.port),
            "SCAN_LOGIN_ADMIN_PORT": "0",
            "SCAN_LOGIN_PUBLIC_URL": "http://127.0.0.1:8000",
            "SCAN_LOGIN_KEY_FILE": str(folder / "keys.json"),
            "SCAN_LOGIN_STATE_URL": state_url,
            **(variables or {}),
        }

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def link(self) -> Link:
        assert self._link is not None
        return self._link

    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    async def start(self) -> None:
        """Start it, and return once it listens."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env={**os.environ, **self._variables},
                stdout=log,
                stderr=log,
            )
        await eventually(self._listens, START_WITHIN)
        self.serving = True

    async def _listens(self) -> bool:
        assert self.runs(), self.log.read_text()
        try:
            _, writer = await asyncio.open_connection(self.host, self.port)
        except OSError:
            return False
        writer.close()
        return True

    def kill(self) -> None:
        """End it where it stands, as `kill -9` does."""
        self.serving = False
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    async def stop(self) -> None:
        """SIGTERM, and wait until it has drained; for a moment people are still sent there."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        await asyncio.sleep(NOTICED_AFTER)
        self.serving = False
        await asyncio.to_thread(self._process.wait, END_WITHIN)


class World:
    def __init__(self, instances: Sequence[Instance]) -> None:
        self.instances = instances

    def any(self, *, but: Instance | None = None) -> Instance | None:
        """An instance that serves, if possible not `but`; None while there is none."""
        serving = [one for one in self.instances if one.serving]
        others = [one for one in serving if one is not but]
        return random.choice(others or serving) if serving else None


@asynccontextmanager
async def running(instances: Sequence[Instance]) -> AsyncIterator[World]:
    """The instances, all of them started; ended after the ``async with`` block."""
    try:
        await instances[0].start()  # alone: it makes the key file that all share
        await asyncio.gather(*(one.start() for one in instances[1:]))
        yield World(instances)
    finally:
        for one in instances:
            if one.runs():
                one.kill()


@asynccontextmanager
async def over(redis: RedisServer, folder: Path, count: int = 2) -> AsyncIterator[World]:
    """Brokers that share `redis`, each over a link of its own."""
    async with AsyncExitStack() as stack:
        links = [await stack.enter_async_context(linked(redis.port)) for _ in range(count)]
        instances = [
            Instance(f"broker-{number}", folder=folder, state_url=link.url, link=link)
            for number, link in enumerate(links, 1)
        ]
        yield await stack.enter_async_context(running(instances))
