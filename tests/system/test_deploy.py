"""A cluster of brokers with a Redis behind nginx."""

from __future__ import annotations

import asyncio
import collections
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from deploy.cluster import DEFAULT_PORTS, Cluster, PortInUse, cluster, ports_from_environment
from tests.support import pages
from tests.support.clients import NodeBrowser, PhoneClient
from tests.support.environment import ROOT, free_port, need
from tests.support.logins import secret_of
from tests.support.waiting import eventually

PROXY = "127.0.0.2"
"""Address of a proxy that nginx trusts. Other requests of the tests come from 127.0.0.1."""

CLIENT, OTHER_CLIENT = "203.0.113.9", "198.51.100.7"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[Cluster]:
    """Two brokers behind nginx. Tests do not change them."""
    need("nginx")
    need("redis-server")
    async with cluster(brokers=2, proxy=PROXY) as running:
        yield running


def direct_client(running: Cluster) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(running.url)


def proxied_client(running: Cluster) -> aiohttp.ClientSession:
    """Return a client whose requests come from the trusted proxy."""
    return aiohttp.ClientSession(
        running.url, connector=aiohttp.TCPConnector(local_addr=(PROXY, 0), limit=0)
    )


async def complete_login(browser: NodeBrowser, url: str) -> dict[str, Any]:
    """Begin in `browser`, scan and confirm by a phone at `url`, and redeem."""
    login_begun = await browser.emit("begin", {})
    async with PhoneClient(url) as phone:
        login = (await phone.post("scan", {"scene": login_begun["scene"]})).body
        assert await browser.push() == ("login-scanned", {"login_id": login_begun["login_id"]})
        await phone.post("confirm", {"login_id": login["login_id"]})
    assert await browser.push() == ("login-confirmed", {"login_id": login_begun["login_id"]})
    token: dict[str, Any] = await browser.emit("redeem", secret_of(login_begun))
    return token


@pytest.mark.parametrize("options", [{}, {"transports": ["websocket"]}], ids=["default", "ws"])
async def test_login_through_nginx_succeeds(running: Cluster, options: dict[str, Any]) -> None:
    browser = NodeBrowser(options)
    await browser.connect(running.url)

    token = await complete_login(browser, running.url)

    assert token["subject"] == "pretend:alice"
    assert await browser.transport() == "websocket"
    await browser.close()


async def test_page_through_nginx_signs_in(chromium: Browser, running: Cluster) -> None:
    page = await pages.open_page(chromium, running.site_url)
    link = f"{running.phone_url}/?scene={await pages.scene_on(page)}"
    phone = await pages.open_page(chromium, link, viewport=pages.NARROW)

    await phone.locator("#scan").click()
    await pages.shows(page, "scanned")
    await phone.locator("#allow").click()

    await expect(page.locator("h1")).to_contain_text("Signed in as", timeout=pages.WAIT_MS)


async def browser_address(http: aiohttp.ClientSession, forwarded: str, url: str) -> str:
    """Begin a login with this X-Forwarded-For, and return the browser address that a phone gets."""
    headers = {"X-Forwarded-For": forwarded}
    form = {"client_id": "default"}
    async with http.post("/oauth/device_authorization", data=form, headers=headers) as response:
        scene = (await response.json())["user_code"]
    async with PhoneClient(url) as phone:
        return str((await phone.post("scan", {"scene": scene})).body["browser"]["ip"])


async def test_forwarded_address_requires_trusted_proxy(running: Cluster) -> None:
    async with direct_client(running) as http:
        assert await browser_address(http, CLIENT, running.url) == "127.0.0.1"
    async with proxied_client(running) as http:
        assert await browser_address(http, CLIENT, running.url) == CLIENT
        # The client itself may have sent the addresses on the left.
        assert await browser_address(http, f"{OTHER_CLIENT}, {CLIENT}", running.url) == CLIENT


@pytest.mark.parametrize(("size", "status"), [(64 * 1024, 400), (64 * 1024 + 1, 413)])
async def test_body_over_64_kb_is_refused(running: Cluster, size: int, status: int) -> None:
    async with (
        direct_client(running) as http,
        http.post("/phone/session", data=b"x" * size) as response,
    ):
        assert response.status == status
        assert (await response.json())["error"] == "invalid_request"


async def test_request_rate_is_limited_per_address(running: Cluster) -> None:
    async with proxied_client(running) as http:

        async def ask(address: str) -> int:
            async with http.get("/version", headers={"X-Forwarded-For": address}) as response:
                if response.status == 429:
                    assert (await response.json())["error"] == "rate_limited"
                    assert response.headers["Retry-After"] == "1"
                return response.status

        statuses = collections.Counter(
            await asyncio.gather(*(ask("192.0.2.200") for _ in range(300)))
        )

        assert statuses[200] >= 200
        assert statuses[429] > 0
        assert await ask(OTHER_CLIENT) == 200


@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "//metrics", "/x/../metrics"])
async def test_nginx_does_not_serve_metrics(running: Cluster, path: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(running.url).port)
    writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    assert b" 404 " in answer.partition(b"\r\n")[0]
    async with aiohttp.ClientSession() as http:
        for broker in running.brokers:
            async with http.get(f"{broker.admin_url}/metrics") as response:
                assert response.status == 200


async def open_session(http: aiohttp.ClientSession) -> int:
    """Open a session over a new connection: a reload of nginx closes the idle ones."""
    code, headers = {"js_code": "pretend:alice"}, {"Connection": "close"}
    async with http.post("/phone/session", json=code, headers=headers) as response:
        return response.status


async def test_browser_resumes_after_brokers_are_replaced() -> None:
    need("nginx")
    need("redis-server")
    async with cluster(brokers=2, pages=False) as running, direct_client(running) as http:
        killed, stopped = running.brokers
        browser = NodeBrowser({})
        await browser.connect(running.url)
        login_begun = await browser.emit("begin", {})

        await killed.process.kill()
        assert {await open_session(http) for _ in range(6)} == {200}
        added = await running.add()

        async def is_used() -> bool:
            await open_session(http)
            return urlsplit(added.url).netloc in (running.folder / "access.log").read_text()

        await eventually(is_used)
        await stopped.process.stop()
        assert {await open_session(http) for _ in range(6)} == {200}
        resumed = await browser.emit("resume", secret_of(login_begun))

        assert stopped.process.exit_code == 0
        assert resumed["state"] == "pending"
        await browser.close()


async def test_query_strings_are_not_logged(running: Cluster) -> None:
    """Neither access lines, Referer fields nor error lines contain a scene or sid."""
    headers = {"Referer": f"{running.url}/?scene=secret-in-referer"}
    async with proxied_client(running) as http:
        for path in ("/device?user_code=secret-a", "/socket.io/?EIO=4&sid=secret-b"):
            async with http.get(path, headers=headers) as response:
                assert response.status < 500
    async with (
        direct_client(running) as http,
        http.post("/x?secret-c", data=b"x" * 99_999) as response,
    ):
        assert response.status == 413

    logs = [(running.folder / f"{name}.log").read_text() for name in ("access", "error", "nginx")]

    assert '"GET /device" ' in logs[0]
    assert "secret" not in "".join(logs)


async def test_demo_cluster_prints_urls_and_ends_by_ctrl_c() -> None:
    need("nginx")
    need("redis-server")
    ports = {name: str(free_port()) for name in DEFAULT_PORTS}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "deploy.cluster"),
        env={**os.environ, **ports, "BROKERS": "1"},
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        greeting = (await process.stdout.readuntil(b"Ctrl-C")).decode()
        process.send_signal(signal.SIGINT)
        await process.communicate()

    assert all(f"http://127.0.0.1:{port} " in greeting for port in ports.values())
    assert process.returncode == 0
    for port in ports.values():
        with pytest.raises(OSError, match="Connect call failed"):
            await asyncio.open_connection("127.0.0.1", int(port))


@pytest.mark.parametrize("name", DEFAULT_PORTS)
def test_taken_port_of_demo_cluster_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        for variable in DEFAULT_PORTS:
            monkeypatch.setenv(variable, str(port if variable == name else free_port()))

        with pytest.raises(PortInUse, match=f"port {port} is in use; set {name} to"):
            ports_from_environment()
