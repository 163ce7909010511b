"""A cluster of local processes: brokers behind nginx, with one Redis.

    browser, phone ──▶ nginx ──▶ broker 1 … N ──▶ Redis
                       site, phone page

`make demo-cluster` and the tests use it. nginx reads the files of this folder, with the
ports and paths of the run.
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
    Process,
    ProcessNotReady,
    free_port,
    is_port_free,
    start_process,
    wait_until_listening,
    wait_until_ready,
)

ROOT = Path(__file__).parent.parent
DEFAULT_PORTS = {"PORT": 8000, "SITE_PORT": 8080, "PHONE_PORT": 8090}
"""The ports of `make demo`, by environment variable."""


class PortInUse(Exception):
    """Another process listens on a port of the cluster. Raised before the cluster starts."""


class Broker(NamedTuple):
    """One broker process, with the addresses that bypass nginx."""

    url: str
    admin_url: str
    process: Process


class Ports(NamedTuple):
    """Ports of nginx, the example site and the phone page."""

    nginx: int
    site: int
    phone: int


class Cluster:
    """The processes of one cluster.

    proxy: an address whose X-Forwarded-For header nginx trusts, or None.
    settings: settings of every broker, by field name. A Redis is started unless they
        contain `state_url`.
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
        """Start all processes. After ProcessNotReady, those already started run until `stop`."""
        if "state_url" not in self._settings:
            await self._start_redis()
        for _ in range(brokers):
            await self._start_broker()
        opened = await self._start_pages() if pages else {}
        front = await self._start_nginx()
        for broker in self.brokers:
            await wait_until_ready(broker.process, f"{broker.url}/health/ready")
        await wait_until_ready(front, f"{self.url}/health/ready")
        for url, page in opened.items():
            await wait_until_ready(page, url)

    async def add(self) -> Broker:
        """Start another broker and reload nginx with the new list of brokers."""
        broker = await self._start_broker()
        await wait_until_ready(broker.process, f"{broker.url}/health/ready")
        self._list_brokers()
        self.nginx.send_signal(signal.SIGHUP)
        return broker

    async def stop(self) -> None:
        """Stop all processes. Brokers get SIGINT, because they have no clients left to drain."""
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
        await wait_until_listening(redis, port)
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
        """Start the example site and the phone page. Return them by URL."""
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
        return await start_process(name, command, self.folder, cwd=ROOT, environment=environment)


@asynccontextmanager
async def cluster(
    *,
    brokers: int = 2,
    ports: Ports | None = None,
    proxy: str | None = None,
    pages: bool = True,
    **settings: object,
) -> AsyncIterator[Cluster]:
    """Run a cluster during the ``async with`` block.

    ports: free ports if None.
    pages: also run the example site and the phone page.

    `RedisCluster` describes the other arguments. Raises ProcessNotReady.
    """
    with tempfile.TemporaryDirectory(prefix="scan-login-cluster-") as name:
        chosen = ports or Ports(free_port(), free_port(), free_port())
        made = Cluster(folder=Path(name), ports=chosen, proxy=proxy, settings=settings)
        try:
            await made.start(brokers, pages=pages)
            yield made
        finally:
            await made.stop()


def startup_message(running: Cluster) -> str:
    brokers = "".join(
        f"    {broker.process.name:<12} {broker.url}      pid {broker.process.pid}, "
        f"metrics at {broker.admin_url}/metrics\n"
        for broker in running.brokers
    )
    return f"""
  Example site   {running.site_url}      open this page: it shows the code
  Phone page     {running.phone_url}      simulates a phone
  nginx          {running.url}      forwards to
{brokers}
  Logs are in {running.folder}. Ctrl-C stops the cluster and deletes them.
"""


async def run(brokers: int, ports: Ports) -> None:
    """Run a cluster until SIGINT or SIGTERM. Raises ProcessNotReady."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with cluster(brokers=brokers, ports=ports) as running:
        print(startup_message(running), flush=True)
        await stop.wait()


def ports_from_environment() -> Ports:
    """Return the ports that the environment sets, with defaults. Raises PortInUse."""
    ports = {name: int(os.environ.get(name) or default) for name, default in DEFAULT_PORTS.items()}
    for name, port in ports.items():
        if not is_port_free(port):
            raise PortInUse(f"port {port} is in use; set {name} to another port")
    return Ports(*ports.values())


def main() -> None:
    try:
        asyncio.run(run(int(os.environ.get("BROKERS") or 2), ports_from_environment()))
    except (ProcessNotReady, PortInUse) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
