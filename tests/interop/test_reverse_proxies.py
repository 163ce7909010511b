"""A login through the proxies of docs/reverse-proxies.md, with changed addresses only."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from broker.cli.demo.gateway import command as envoy_command
from tests.support.builders import StartBroker
from tests.support.certificate import certificate
from tests.support.clients import http_session
from tests.support.deployment import example_of
from tests.support.environment import ROOT, free_port
from tests.support.interop import program_of
from tests.support.logins import logs_in
from tests.support.servers.proxies import CLIENT, running_proxy, seen_address, wait_until_serving
from tests.support.servers.redis import Engines

pytestmark = pytest.mark.interop

PAGE = (ROOT / "docs/reverse-proxies.md").read_text()
TUNNEL = "/tunnel/secret-ticket?scene=secret-scene"


class Proxy(NamedTuple):
    """tls: a context for its self-signed certificate."""

    url: str
    tls: ssl.SSLContext


def unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def changed(text: str, changes: dict[str, str]) -> str:
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


def traefik(folder: Path, port: int, brokers: Sequence[str]) -> list[str]:
    """Write the configuration of Traefik, and return its command."""
    routes = changed(
        example_of(PAGE, "yaml", "# /etc/traefik/scan-login.yml"),
        {
            "{certResolver: letsencrypt}": "{}",
            "Host(`login.example`)": "Host(`localhost`)",
            **dict(zip(("127.0.0.1:8001", "127.0.0.1:8002"), brokers, strict=True)),
        },
    )
    (folder / "scan-login.yml").write_text(routes)
    main = changed(
        example_of(PAGE, "yaml", "# /etc/traefik/traefik.yml"),
        {
            ":443": f"127.0.0.1:{port}",
            ":80": f"127.0.0.1:{free_port()}",
            "/etc/traefik": str(folder),
            "/var/lib/traefik": str(folder),
        },
    )
    (folder / "traefik.yml").write_text(main)
    return [program_of("traefik", "traefik"), f"--configFile={folder}/traefik.yml"]


def envoy(folder: Path, port: int, brokers: Sequence[str]) -> list[str]:
    """Write the configuration of Envoy and a certificate, and return the command."""
    certificate(folder)
    text = changed(
        example_of(PAGE, "yaml", "# /etc/envoy/envoy.yaml"),
        {
            "port_value: 443": f"port_value: {port}",
            "port_value: 8001": f"port_value: {brokers[0].rpartition(':')[2]}",
            "port_value: 8002": f"port_value: {brokers[1].rpartition(':')[2]}",
            "/etc/envoy/tls/fullchain.pem": f"{folder}/cert.pem",
            "/etc/envoy/tls/privkey.pem": f"{folder}/key.pem",
        },
    )
    (folder / "envoy.yaml").write_text(text)
    return envoy_command(folder / "envoy.yaml")


@pytest.fixture(params=[traefik, envoy], ids=["traefik", "envoy"])
async def proxy(
    request: pytest.FixtureRequest, tmp_path: Path, start_broker: StartBroker, engines: Engines
) -> AsyncIterator[Proxy]:
    """A proxy before two brokers."""
    engines.empty("redis")
    port = free_port()
    url = f"https://localhost:{port}"
    shared = {
        "public_url": url,
        "trusted_proxies": ["127.0.0.1"],
        "allow_pretend": True,
        "state_url": engines.url("redis"),
        "key_file": tmp_path / "keys.json",
    }
    brokers = [await start_broker(**shared) for _ in range(2)]
    folder = tmp_path / "proxy"
    folder.mkdir()
    command = request.param(folder, port, [one.url.removeprefix("http://") for one in brokers])
    async with running_proxy(command, folder, port):
        tls = unverified()
        await wait_until_serving(url, tls)
        yield Proxy(url, tls)


async def test_login_through_proxy_succeeds(proxy: Proxy) -> None:
    assert await logs_in(proxy.url, proxy.tls)


async def test_client_cannot_forge_its_address(proxy: Proxy) -> None:
    assert await seen_address(proxy.url, proxy.tls) == CLIENT


async def test_proxy_writes_no_query_string(proxy: Proxy, tmp_path: Path) -> None:
    async with http_session(proxy.url, proxy.tls) as http, http.get(TUNNEL) as response:
        assert response.status < 500

    logs = [path.read_text() for path in (tmp_path / "proxy").glob("*.log")]
    assert logs
    assert "secret" not in "".join(logs)
