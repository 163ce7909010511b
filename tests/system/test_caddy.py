"""deploy/Caddyfile in front of a broker, with a self-signed certificate."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.builders import StartBroker
from tests.support.clients import http_session
from tests.support.deployment import DEPLOY, HSTS_HOSTS
from tests.support.environment import free_port
from tests.support.logins import logs_in
from tests.support.servers.proxies import (
    CLIENT,
    local_caddyfile,
    local_tls,
    packaged_program,
    running_proxy,
    seen_address,
)


class Caddy(NamedTuple):
    """A Caddy before a broker.

    tls: trusts the certificate of this Caddy only.
    """

    url: str
    tls: ssl.SSLContext
    log: Path
    stop_broker: Callable[[], Awaitable[None]]


@pytest.fixture
async def caddy(tmp_path: Path, start_broker: StartBroker) -> AsyncIterator[Caddy]:
    port = free_port()
    url = f"https://localhost:{port}"
    broker = await start_broker(public_url=url, trusted_proxies=["127.0.0.1"], allow_pretend=True)
    file = local_caddyfile(tmp_path, port, hosts=["localhost", *HSTS_HOSTS])
    command = [packaged_program("caddy"), "run", "--config", str(file)]
    async with running_proxy(
        command, tmp_path, port, BROKERS=broker.url.removeprefix("http://")
    ) as log:
        tls = await local_tls(tmp_path, url)
        assert broker.stop is not None
        yield Caddy(url, tls, log, broker.stop)


async def test_caddy_accepts_shipped_file() -> None:
    process = await asyncio.create_subprocess_exec(
        *(packaged_program("caddy"), "validate", "--adapter", "caddyfile"),
        *("--config", str(DEPLOY / "Caddyfile")),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()

    assert process.returncode == 0, output.decode()
    assert b'"level":"warn"' not in output


async def test_login_through_caddy_succeeds(caddy: Caddy) -> None:
    assert await logs_in(caddy.url, caddy.tls)


async def test_client_behind_caddy_cannot_forge_its_address(caddy: Caddy) -> None:
    assert await seen_address(caddy.url, caddy.tls) == CLIENT


async def test_caddy_logs_no_query_header_or_ticket(caddy: Caddy) -> None:
    """Caddy logs a request as an error if no broker answers."""
    await caddy.stop_broker()

    url = "/tunnel/secret-ticket?scene=secret-scene"
    headers = {"Referer": "https://a.example/secret"}
    async with (
        http_session(caddy.url, caddy.tls) as http,
        http.get(url, headers=headers) as response,
    ):
        assert response.status in (502, 503)

    text = caddy.log.read_text()
    assert '"uri":"/tunnel/"' in text
    assert "secret" not in text


async def test_caddy_sends_hsts_for_public_names_only(caddy: Caddy) -> None:
    port = caddy.url.rpartition(":")[2]
    hosts = {f"{host}:{port}": is_public for host, is_public in HSTS_HOSTS.items()}
    sent = {}

    async with http_session(caddy.url, caddy.tls) as http:
        for host in hosts:
            async with http.get("/version", headers={"Host": host}) as response:
                assert response.status == 200, host
                sent[host] = "Strict-Transport-Security" in response.headers

    assert sent == hosts
