"""Broker processes that a test can end and start again."""

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

from tests.chaos.network_link import Link, open_link
from tests.support.environment import free_port
from tests.support.servers.redis import RedisServer
from tests.support.waiting import eventually

START_TIMEOUT = 120.0
"""Seconds until a broker must listen, also on a busy machine."""

END_TIMEOUT = 60.0
"""Seconds until a broker must end after SIGTERM, also on a busy machine."""

BALANCER_DELAY = 1.0
"""Seconds until a load balancer detects that an instance drains."""

NO_LIMITS = {
    "SCAN_LOGIN_BEGINS_PER_MINUTE": "1000000",
    "SCAN_LOGIN_MISSES_PER_MINUTE": "1000000",
    "SCAN_LOGIN_SOCKET_PACKETS_PER_MINUTE": "1000000",
    "SCAN_LOGIN_ADDRESS_PACKETS_PER_MINUTE": "1000000000",
    "SCAN_LOGIN_POLLING_SESSIONS_PER_ADDRESS": "1000000",
}
"""All users of a test have one address."""


class Instance:
    """A broker process with a constant name and address.

    before: a prefix of the command, such as `ip netns exec …`.
    link: the network link to its Redis, if there is one.
    serving: whether a load balancer would send requests to it.
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
        """Start the broker, and return when it listens."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env={**os.environ, **self._variables},
                stdout=log,
                stderr=log,
            )
        await eventually(self._listens, START_TIMEOUT)
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
        """Kill the broker with SIGKILL."""
        self.serving = False
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        """Pause the broker with SIGSTOP. The load balancer does not detect it."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def stop(self) -> None:
        """Send SIGTERM, and wait for the end. Users still connect during `BALANCER_DELAY`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        await asyncio.sleep(BALANCER_DELAY)
        self.serving = False
        await asyncio.to_thread(self._process.wait, END_TIMEOUT)


class World:
    def __init__(self, instances: Sequence[Instance]) -> None:
        self.instances = instances

    def any(self, *, but: Instance | None = None) -> Instance | None:
        """Return a serving instance, if possible not `but`; None if there is none."""
        serving = [one for one in self.instances if one.serving]
        others = [one for one in serving if one is not but]
        return random.choice(others or serving) if serving else None


@asynccontextmanager
async def running(instances: Sequence[Instance]) -> AsyncIterator[World]:
    """Start the instances, and end them after the block."""
    try:
        await instances[0].start()  # the first one creates the shared key file
        await asyncio.gather(*(one.start() for one in instances[1:]))
        yield World(instances)
    finally:
        for one in instances:
            if one.runs():
                one.kill()


@asynccontextmanager
async def brokers_with_links(
    redis: RedisServer,
    folder: Path,
    count: int = 2,
    variables: dict[str, str] | None = None,
) -> AsyncIterator[World]:
    """Brokers that share `redis`, each over its own link.  variables: of the environment."""
    async with AsyncExitStack() as stack:
        links = [await stack.enter_async_context(open_link(redis.port)) for _ in range(count)]
        instances = [
            Instance(
                f"broker-{number}",
                folder=folder,
                state_url=link.url,
                link=link,
                variables=variables,
            )
            for number, link in enumerate(links, 1)
        ]
        yield await stack.enter_async_context(running(instances))
