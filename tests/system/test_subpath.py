"""The broker below a path of a site, behind an nginx that keeps or strips the path."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp
import pytest
from aiohttp.test_utils import make_mocked_request
from playwright.async_api import Browser, expect

from broker.blobs.settings import BlobSettings
from broker.errors import InvalidSettings
from broker.infrastructure.runtime.drain import DrainGate, InstanceDraining
from broker.infrastructure.runtime.server import Site, serve_sites
from broker.infrastructure.runtime.settings import ServerSettings
from broker.settings import load_settings
from deploy import nginx
from mp_stub.phone import Phone
from mp_stub.phone_page import build_phone_page
from tests.support import pages
from tests.support.builders import RunningBroker, StartBroker
from tests.support.clients import NodeBrowser
from tests.support.environment import ROOT, free_port, need
from tests.support.nginx import can_connect
from tests.support.waiting import eventually
from web_demo.site import build_site
from web_demo.verify import TokenVerifier

DOCS = ROOT / "docs"
PATH = "/login-broker"


def documented_nginx() -> str:
    """Return the example of docs/deploy.md."""
    text = (DOCS / "deploy.md").read_text()
    [example] = re.findall(r"```nginx\n(.*?)```", text, re.DOTALL)
    return str(example)


def written_conf(folder: Path, port: int, broker_port: int, *, stripping: bool) -> Path:
    folder.chmod(0o711)
    example = documented_nginx().replace("listen 80;", f"listen 127.0.0.1:{port};")
    if stripping:
        example = example.replace("proxy_pass http://127.0.0.1:8000;", "proxy_pass http://_/;", 1)
    example = example.replace("http://127.0.0.1:8000", f"http://127.0.0.1:{broker_port}")
    example = example.replace("http://_/", f"http://127.0.0.1:{broker_port}/")
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in nginx.TEMPORARY_FOLDERS)
    conf = folder / "nginx.conf"
    conf.write_text(f"events {{}}\nhttp {{\n{temporary}{example}}}\n")
    return conf


@pytest.fixture
def site_port() -> int:
    return free_port()


@pytest.fixture(params=[False, True], ids=["kept", "stripped"])
async def broker(
    request: pytest.FixtureRequest, start_broker: StartBroker, tmp_path: Path, site_port: int
) -> AsyncIterator[RunningBroker]:
    """A broker behind nginx; `public_url` is the URL of nginx."""
    need("nginx")
    port = free_port()
    broker = await start_broker(
        public_url=f"http://127.0.0.1:{port}{PATH}",
        origins=f"http://127.0.0.1:{site_port}",
        phone_page_url="http://127.0.0.1:1/",
    )
    conf = written_conf(
        tmp_path, port, broker.settings[ServerSettings].port, stripping=request.param
    )
    process = await asyncio.create_subprocess_exec(*nginx.command(conf))
    try:
        await eventually(lambda: can_connect(port), within=30)
        yield broker
    finally:
        process.terminate()
        await process.wait()


async def fetched(url: str) -> Any:
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        assert response.status == 200, url
        return await response.json()


@pytest.mark.parametrize("socketio", [False, True], ids=["http", "socketio"])
@pytest.mark.parametrize("transports", [["polling"], ["websocket"]], ids=str)
async def test_login_under_a_path_issues_a_token(
    broker: RunningBroker, transports: list[str], socketio: bool
) -> None:
    public_url = broker.settings[ServerSettings].public_url
    browser = NodeBrowser({"path": f"{PATH}/socket.io/", "transports": transports})
    await browser.connect(f"http://{urlsplit(public_url).netloc}")
    login = await browser.emit("begin", {})

    async with Phone(broker=public_url, socketio=socketio) as phone:
        scanned = await phone.scan(login["scene"])
        await phone.confirm(str(scanned["login_id"]))
    token = await browser.emit("redeem", {name: login[name] for name in ("login_id", "secret")})
    await browser.close()

    verifier = TokenVerifier(broker=public_url, app="default")
    claims = await asyncio.to_thread(verifier.verify, token["access_token"])
    assert (claims["iss"], claims["sub"]) == (public_url, "pretend:alice")


async def test_widget_under_a_path_signs_in(
    chromium: Browser, broker: RunningBroker, site_port: int
) -> None:
    public_url, phone_port = broker.settings[ServerSettings].public_url, free_port()
    phone_url = f"http://127.0.0.1:{phone_port}"
    site = build_site(broker_url=public_url, phone_url=phone_url)
    phone_site = build_phone_page(broker_url=public_url)
    sites = [
        Site("site", site, "127.0.0.1", site_port, "PORT"),
        Site("phone", phone_site, "127.0.0.1", phone_port, "PORT"),
    ]
    async with serve_sites(sites) as urls:
        page = await pages.open_page(chromium, urls["site"])
        link = f"{phone_url}/?scene={await pages.scene_on(page)}"
        phone = await pages.open_page(chromium, link, viewport=pages.NARROW)

        await phone.locator("#scan").click()
        await pages.shows(page, "scanned")
        await phone.locator("#allow").click()

        await expect(page.locator("h1")).to_contain_text("Signed in as", timeout=pages.WAIT_MS)


async def test_device_page_under_a_path_has_its_style(broker: RunningBroker) -> None:
    public_url = broker.settings[ServerSettings].public_url
    form = {"client_id": "default"}
    async with aiohttp.ClientSession() as http:
        async with http.post(f"{public_url}/oauth/device_authorization", data=form) as response:
            login = await response.json()
        assert login["verification_uri"] == f"{public_url}/device"
        async with http.get(login["verification_uri_complete"]) as response:
            assert response.status == 200
            page = await response.text()
        [style] = re.findall(r'<link rel="stylesheet" href="([^"]+)"', page)
        [action] = re.findall(r'<form action="([^"]+)"', page)
        for link in (style, action):
            async with http.get(urljoin(login["verification_uri"], link)) as response:
                assert response.status == 200, link


async def test_index_page_under_a_path_has_live_links(broker: RunningBroker) -> None:
    async with aiohttp.ClientSession() as http:
        async with http.get(f"{broker.settings[ServerSettings].public_url}/") as response:
            page = await response.text()
        links = re.findall(r'href="([^"]+)"', page)
        assert len(links) > 3
        for link in links:
            async with http.get(f"{broker.settings[ServerSettings].public_url}/{link}") as response:
                assert response.status == 200, link


async def test_public_url_without_slash_leads_to_the_index(start_broker: StartBroker) -> None:
    broker = await start_broker(public_url=f"http://127.0.0.1{PATH}")

    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{broker.url}{PATH}", allow_redirects=False) as response,
    ):
        assert (response.status, response.headers["Location"]) == (308, f"{PATH}/")


async def test_documents_under_a_path_name_the_path(broker: RunningBroker) -> None:
    public_url = broker.settings[ServerSettings].public_url
    parts = urlsplit(public_url)
    well_known = f"{parts.scheme}://{parts.netloc}/.well-known/oauth-authorization-server"

    metadata = await fetched(f"{well_known}{PATH}")
    openapi = await fetched(f"{public_url}/openapi.json")

    assert metadata["issuer"] == public_url
    assert metadata["token_endpoint"] == f"{public_url}/oauth/token"
    assert (await fetched(metadata["jwks_uri"]))["keys"]
    assert [server["url"] for server in openapi["servers"]] == [public_url]
    assert not [path for path in openapi["paths"] if path.startswith(PATH)]
    assert broker.settings[BlobSettings].pictures_public_url == f"{public_url}/codes"


async def test_page_of_site_may_request_login(broker: RunningBroker, site_port: int) -> None:
    origin = f"http://127.0.0.1:{site_port}"
    async with (
        aiohttp.ClientSession(headers={"Origin": origin}) as http,
        http.post(
            f"{broker.settings[ServerSettings].public_url}/oauth/device_authorization",
            data={"client_id": "default"},
        ) as response,
    ):
        assert response.status == 200
        assert response.headers["Access-Control-Allow-Origin"] == origin


@pytest.mark.parametrize("path", ["/socket.io/", f"{PATH}/socket.io/"])
def test_draining_broker_refuses_handshake_under_path(path: str) -> None:
    drain = DrainGate()
    drain.close()

    with pytest.raises(InstanceDraining):
        drain.check_handshake(make_mocked_request("GET", f"{path}?EIO=4&transport=polling"))


@pytest.mark.parametrize(
    "url",
    [
        "http://h/a b",
        "http://h/a//b",
        "http://h/../a",
        "http://h/{a}",
        "http://h/%2e",
        "http://h/é",
    ],
)
def test_public_url_with_unusual_path_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCAN_LOGIN_PUBLIC_URL", url)

    with pytest.raises(InvalidSettings, match="SCAN_LOGIN_PUBLIC_URL"):
        load_settings()
