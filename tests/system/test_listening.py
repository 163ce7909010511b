"""Listening on several addresses, and on IPv4 and IPv6 at once."""

from __future__ import annotations

import re
import socket
import urllib.request
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from broker.infrastructure.api.client_address import ClientAddresses
from broker.infrastructure.runtime.listening import (
    ListenAddress,
    PortInUse,
    open_sockets,
    reserve_port,
)
from broker.infrastructure.runtime.server import Site, serve_sites
from tests.support.commands import serving as command
from tests.support.environment import free_port, miss


@pytest.fixture(autouse=True)
def _ipv6() -> None:
    if not socket.has_ipv6 or not socket.has_dualstack_ipv6():
        miss("this machine has no IPv6 on loopback")


def answers(url: str) -> bool:
    with urllib.request.urlopen(f"{url}/health/live", timeout=90) as response:
        return bool(response.status == 200)


def test_broker_listens_on_every_address(tmp_path: Path) -> None:
    with command(tmp_path, SCAN_LOGIN_PORT="0", SCAN_LOGIN_HOST="127.0.0.1,::1") as (_, line):
        found = re.search(r" ready on http://127\.0\.0\.1:(\d+) and http://\[::1\]:(\d+) ", line)

        assert found is not None, line
        assert found[1] == found[2]
        assert answers(f"http://127.0.0.1:{found[1]}")
        assert answers(f"http://[::1]:{found[1]}")


def test_unspecified_ipv6_address_accepts_ipv4(tmp_path: Path) -> None:
    port = free_port()
    variables = {"SCAN_LOGIN_PUBLIC_URL": f"http://127.0.0.1:{port}", "SCAN_LOGIN_HOST": "::"}
    with command(
        tmp_path, SCAN_LOGIN_PORT=str(port), SCAN_LOGIN_ALLOW_PRETEND="true", **variables
    ) as (_, line):
        assert f" ready on http://[::]:{port} " in line
        assert answers(f"http://127.0.0.1:{port}")
        assert answers(f"http://[::1]:{port}")


def test_metrics_listen_on_every_admin_address(tmp_path: Path) -> None:
    admin = free_port()
    with command(
        tmp_path,
        SCAN_LOGIN_PORT="0",
        SCAN_LOGIN_ADMIN_PORT=str(admin),
        SCAN_LOGIN_ADMIN_HOST="127.0.0.1,::1",
    ):
        assert answers(f"http://127.0.0.1:{admin}")
        assert answers(f"http://[::1]:{admin}")


@pytest.mark.parametrize("host", ["::,0.0.0.0", "0.0.0.0,::", "127.0.0.1,::1", "localhost"])
def test_addresses_share_one_free_port(host: str) -> None:
    sockets = open_sockets(ListenAddress("broker", host, 0, "PORT"))

    assert len({opened.getsockname()[1] for opened in sockets}) == 1
    for opened in sockets:
        opened.close()


def test_taken_port_names_its_address() -> None:
    with socket.socket(socket.AF_INET6) as listener:
        listener.bind(("::1", 0))
        listener.listen()
        port = listener.getsockname()[1]

        with pytest.raises(PortInUse, match=rf"port {port} on ::1 is in use"):
            open_sockets(ListenAddress("broker", "127.0.0.1,::1", port, "PORT"))

    open_sockets(ListenAddress("broker", "127.0.0.1", port, "PORT"))[0].close()


def test_bound_port_is_taken_before_listen() -> None:
    """Two sockets with SO_REUSEADDR can be bound to one port until one of them listens."""
    first = open_sockets(ListenAddress("broker", "127.0.0.1", 0, "PORT"))[0]
    port = first.getsockname()[1]

    with first, pytest.raises(PortInUse, match=rf"port {port} on 127.0.0.1 is in use"):
        open_sockets(ListenAddress("broker", "127.0.0.1", port, "PORT"))


def test_duplicate_address_is_bound_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """This happens if the hosts file has the name on two lines."""
    found = socket.getaddrinfo("127.0.0.1", 0, type=socket.SOCK_STREAM)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **options: found * 2)

    sockets = open_sockets(ListenAddress("broker", "twice.example", 0, "PORT"))

    assert len(sockets) == 1
    sockets[0].close()


def test_reserved_port_is_held_on_every_address() -> None:
    with reserve_port(ListenAddress("broker", "127.0.0.1,::1", 0, "PORT")) as port:
        for host in ("127.0.0.1", "::1"):
            with pytest.raises(PortInUse):
                open_sockets(ListenAddress("broker", host, port, "PORT"))
        for opened in open_sockets(
            ListenAddress("broker", "127.0.0.1,::1", port, "PORT"), shared=True
        ):
            opened.close()


async def test_ipv4_client_of_ipv6_socket_has_ipv4_address() -> None:
    """A socket for both families reports the address as `::ffff:127.0.0.1`."""
    addresses = ClientAddresses(())

    async def show(request: web.Request) -> web.Response:
        return web.Response(text=addresses.of(request))

    application = web.Application()
    application.add_routes([web.get("/", show)])
    async with (
        serve_sites([Site("site", application, "::", 0, "PORT")]) as urls,
        aiohttp.ClientSession() as http,
        http.get(urls["site"].replace("[::]", "127.0.0.1")) as response,
    ):
        assert await response.text() == "127.0.0.1"
