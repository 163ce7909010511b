"""Reverse proxies in front of a broker of the test."""

from __future__ import annotations

import socket
import ssl
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from deploy.processes import listening_process
from tests.support.clients import PhoneClient, http_session
from tests.support.deployment import DEPLOY
from tests.support.environment import free_port, miss
from tests.support.waiting import eventually

CLIENT = "127.0.0.2"
"""The address of a client. The proxy itself has 127.0.0.1."""

FORGED = {"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9"}
"""Headers of a client that claims another address."""


def packaged_program(name: str) -> str:
    """Return the path of a program that a Python package of the tests contains."""
    path = Path(sys.executable).parent / name
    if not path.exists():
        miss(f"{name} is not installed: run make test")
    return str(path)


@asynccontextmanager
async def running_proxy(
    command: Sequence[str], folder: Path, port: int, **variables: str
) -> AsyncIterator[Path]:
    """Run a proxy that listens on `port`, with `folder` as its home; yields its log."""
    environment = {"HOME": str(folder), **variables}
    name = Path(command[0]).name
    async with listening_process(name, command, folder, port, environment=environment) as process:
        yield process.log


def local_caddyfile(folder: Path, port: int, *, hosts: Sequence[str] = ("localhost",)) -> Path:
    """Write the Caddyfile with self-signed certificates for `hosts` at `port`."""
    text = (DEPLOY / "Caddyfile").read_text()
    options = f"admin off\n\tskip_install_trust\n\thttp_port {free_port()}\n\thttps_port {port}\n"
    text = text.replace("\n{\n", f"\n{{\n\t{options}", 1)
    sites = ", ".join(f"{host}:{port}" for host in hosts)
    text = text.replace("{$DOMAIN:login.example} {\n", f"{sites} {{\n\ttls internal\n")
    file = folder / "Caddyfile"
    file.write_text(text)
    return file


async def wait_until_serving(url: str, tls: ssl.SSLContext) -> None:
    """Return when a proxy has its certificate and answers for a ready broker."""

    async def is_ready() -> bool:
        try:
            async with http_session(url, tls) as http, http.get("/health/ready") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False

    await eventually(is_ready)


async def local_tls(folder: Path, url: str) -> ssl.SSLContext:
    """Return a context that trusts the Caddy at `url`, once it has its certificate."""
    root = folder / ".local/share/caddy/pki/authorities/local/root.crt"
    await eventually(root.exists)
    tls = ssl.create_default_context(cafile=str(root))

    await wait_until_serving(url, tls)
    return tls


async def seen_address(url: str, tls: ssl.SSLContext) -> str:
    """Begin a login from CLIENT with forged headers, and return the address that a phone gets."""
    connector = aiohttp.TCPConnector(ssl=tls, local_addr=(CLIENT, 0), family=socket.AF_INET)
    form = {"client_id": "default"}
    async with (
        aiohttp.ClientSession(url, connector=connector) as http,
        http.post("/oauth/device_authorization", data=form, headers=FORGED) as response,
    ):
        scene = (await response.json())["user_code"]
    async with PhoneClient(url, tls=tls) as phone:
        return str((await phone.post("scan", {"scene": scene})).body["browser"]["ip"])
