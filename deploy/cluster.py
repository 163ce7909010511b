"""Brokers behind nginx with Redis between them, as real processes on this machine.

    browser, phone ──▶ nginx ──▶ broker 1 … N ──▶ Redis
                       site, phone page

`make demo-cluster` runs it for a person, the tests for themselves.  nginx runs by
the very files that an operator takes, with other ports and paths in them.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from deploy import nginx
from deploy.processes import (
    DidNotStart,
    Process,
    free_port,
    is_free,
    until_listening,
    until_ready,
)

ROOT = Path(__file__).parent.parent
USUAL_PORTS = {"PORT": 8000, "SITE_PORT": 8080, "PHONE_PORT": 8090}
"""Those of `make demo`, and what sets them."""


class PortTaken(Exception):
    """Noticed before anything starts: whoever listens there might answer in our place."""


class Broker(NamedTuple):
    """One broker, reached past nginx by its own addresses."""

    url: str
    admin_url: str
    process: Process


class Ports(NamedTuple):
    """Where people reach nginx, the example site and the phone page."""

    nginx: int
    site: int
    phone: int


class Cluster:
    """The processes of one cluster.

    proxy: an address whose X-Forwarded-For nginx believes; None for none.
    settings: for every broker, by field; without a `state_url` there is a Redis.
    """

    def __init__(
        self, *, folder: Path, ports: Ports, proxy: str | None, settings: Mapping[str, object]
    ) -> None:
        self.folder = folder
        self.url, self.site_url, self.phone_url = (f"http://127.0.0.1:{port}" for port in ports)
        self.brokers: list[Broker] = []
        self._others: list[Process] = []
        self._ports = ports
        self._proxy = proxy
        self._settings = settings

    async def start(self, brokers: int, *, pages: bool) -> None:
        """Raises DidNotStart; what had started by then runs until `stop`."""
        if "state_url" not in self._settings:
            await self._start_redis()
        for _ in range(brokers):
            await self._start_broker()
        opened = await self._start_pages() if pages else {}
        front = await self._start_nginx()
        for broker in self.brokers:
            await until_ready(broker.process, f"{broker.url}/health/ready")
        await until_ready(front, f"{self.url}/health/ready")
        for url, page in opened.items():
            await until_ready(page, url)

    async def add(self) -> Broker:
        """Start one more broker and put it on nginx' list, which takes effect within a second."""
        broker = await self._start_broker()
        await until_ready(broker.process, f"{broker.url}/health/ready")
        self._list_brokers()
        self.nginx.tell(signal.SIGHUP)
        return broker

    async def stop(self) -> None:
        """End everything; brokers by SIGINT, since nobody is left to be drained for."""
        await asyncio.gather(*(broker.process.stop(signal.SIGINT) for broker in self.brokers))
        await asyncio.gather(*(process.stop() for process in self._others))

    async def _start_redis(self) -> None:
        port = free_port()
        redis = await self._spawn(
            "redis",
            *("redis-server", "--bind", "127.0.0.1", "--port", str(port)),
            *("--dir", str(self.folder), "--save", "", "--appendonly", "no"),
        )
        self._others.append(redis)
        await until_listening(redis, port)
        self._settings = {**self._settings, "state_url": f"redis://127.0.0.1:{port}"}

    async def _start_broker(self) -> Broker:
        port, admin_port = free_port(), free_port()
        settings = {
            "host": "127.0.0.1",
            "port": port,
            "admin_port": admin_port,
            "public_url": self.url,
            "origins": f"{self.site_url},http://localhost:{self._ports.site}",
            "phone_page_url": f"{self.phone_url}/",
            "key_file": self.folder / "keys.json",
            "seal_file": self.folder / "seal.json",
            "records_url": f"sqlite+aiosqlite:///{self.folder}/records.db",
            "trusted_proxies": "127.0.0.1",
            **self._settings,
        }
        name = f"broker-{len(self.brokers) + 1}"
        environment = {f"SCAN_LOGIN_{key.upper()}": str(value) for key, value in settings.items()}
        process = await self._spawn(
            name, sys.executable, "-m", "broker", "serve", environment=environment
        )
        urls = (f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin_port}")
        broker = Broker(*urls, process)
        self.brokers.append(broker)
        return broker

    async def _start_pages(self) -> dict[str, Process]:
        """Start the example site and the phone page; each by its URL."""
        site = ["web_demo", "--port", str(self._ports.site), "--phone-url", self.phone_url]
        phone = ["mp_stub", "serve", "--port", str(self._ports.phone)]
        return {
            self.site_url: await self._start_page(*site),
            self.phone_url: await self._start_page(*phone),
        }

    async def _start_page(self, module: str, *arguments: str) -> Process:
        page = await self._spawn(
            module, sys.executable, "-m", module, *arguments, "--broker", self.url
        )
        self._others.append(page)
        return page

    async def _start_nginx(self) -> Process:
        conf = nginx.render(self.folder, port=self._ports.nginx, proxy=self._proxy)
        self._list_brokers()
        self.nginx = await self._spawn("nginx", *nginx.command(conf))
        self._others.append(self.nginx)
        return self.nginx

    def _list_brokers(self) -> None:
        addresses = [broker.url.removeprefix("http://") for broker in self.brokers]
        nginx.write_brokers(self.folder, addresses)

    async def _spawn(
        self, name: str, *command: str, environment: Mapping[str, str] | None = None
    ) -> Process:
        log = self.folder / f"{name}.log"
        with log.open("wb") as file:
            process = await asyncio.create_subprocess_exec(
                *command,
                env={**os.environ, **(environment or {})},
                cwd=ROOT,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                process_group=0,  # Ctrl-C is for whoever runs the cluster: it stops them in order
            )
        return Process(name, process, log)


@asynccontextmanager
async def cluster(
    *,
    brokers: int = 2,
    ports: Ports | None = None,
    proxy: str | None = None,
    pages: bool = True,
    **settings: object,
) -> AsyncIterator[Cluster]:
    """Run a cluster inside the ``async with`` block, on free ports where none are given.

    pages: whether the example site and the phone page run as well.  The rest is
    as for `Cluster`.  Raises DidNotStart.
    """
    with tempfile.TemporaryDirectory(prefix="scan-login-cluster-") as name:
        chosen = ports or Ports(free_port(), free_port(), free_port())
        made = Cluster(folder=Path(name), ports=chosen, proxy=proxy, settings=settings)
        try:
            await made.start(brokers, pages=pages)
            yield made
        finally:
            await made.stop()


def greeting(running: Cluster) -> str:
    brokers = "".join(
        f"    {broker.process.name:<12} {broker.url}      pid {broker.process.pid}, "
        f"metrics at {broker.admin_url}/metrics\n"
        for broker in running.brokers
    )
    return f"""
  Example site   {running.site_url}      open this: it shows the code
  Phone page     {running.phone_url}      plays the phone, when you have none at hand
  nginx          {running.url}      in front of
{brokers}
  Logs are in {running.folder}, until Ctrl-C stops all.
"""


async def run(brokers: int, ports: Ports) -> None:
    """Run a cluster until SIGINT or SIGTERM; raises DidNotStart."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with cluster(brokers=brokers, ports=ports) as running:
        print(greeting(running), flush=True)
        await stop.wait()


def chosen_ports() -> Ports:
    """The ports that the environment names, or the usual ones.  Raises PortTaken."""
    ports = {name: int(os.environ.get(name) or usual) for name, usual in USUAL_PORTS.items()}
    for name, port in ports.items():
        if not is_free(port):
            raise PortTaken(f"port {port} is taken: choose another with {name}=…")
    return Ports(*ports.values())


def main() -> None:
    try:
        asyncio.run(run(int(os.environ.get("BROKERS") or 2), chosen_ports()))
    except (DidNotStart, PortTaken) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
