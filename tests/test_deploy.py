"""What an operator takes: nginx in front of real brokers, the image, the Compose file."""

from __future__ import annotations

import asyncio
import collections
import datetime
import importlib.util
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import aiohttp
import pytest
import pytest_asyncio
import yaml
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from playwright.async_api import expect
from typer.main import get_command

from broker.__main__ import command
from broker.app import build
from broker.engine import Server
from broker.serving import Site, serving
from broker.settings import PREFIX, Settings, load, unknown_names
from deploy import nginx
from deploy.cluster import USUAL_PORTS, Cluster, PortTaken, chosen_ports, cluster
from mp_stub.page import make_phone
from tests import test_chromium as pages
from tests.clients import NodeBrowser, PhoneClient
from tests.conftest import Running, free_port, need
from tests.servers import eventually
from tests.test_journeys import secret_of
from web_demo.site import make_site

ROOT = Path(__file__).parent.parent
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
PROXY = "127.0.0.2"
"""Where a proxy that nginx trusts would stand; the tests themselves stand at 127.0.0.1."""

SOMEBODY, ANOTHER = "203.0.113.9", "198.51.100.7"

chromium = pages.chromium


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[Cluster]:
    """Two brokers behind nginx, which a test leaves as they are."""
    need("nginx")
    need("redis-server")
    async with cluster(brokers=2, proxy=PROXY) as running:
        yield running


def outside(running: Cluster) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(running.url)


def behind_proxy(running: Cluster) -> aiohttp.ClientSession:
    """Requests that come to nginx from the proxy that it trusts."""
    return aiohttp.ClientSession(
        running.url, connector=aiohttp.TCPConnector(local_addr=(PROXY, 0), limit=0)
    )


async def whole_login(browser: NodeBrowser, url: str) -> dict[str, Any]:
    """Begin in `browser`, scan and confirm by a phone at `url`, and redeem."""
    begun = await browser.emit("begin", {})
    async with PhoneClient(url) as phone:
        login = (await phone.post("scan", {"scene": begun["scene"]})).body
        assert await browser.push() == ("login-scanned", {"login_id": begun["login_id"]})
        await phone.post("confirm", {"login_id": login["login_id"]})
    assert await browser.push() == ("login-confirmed", {"login_id": begun["login_id"]})
    token: dict[str, Any] = await browser.emit("redeem", secret_of(begun))
    return token


@pytest.mark.parametrize("options", [{}, {"transports": ["websocket"]}], ids=["default", "ws"])
async def test_a_login_through_nginx(running: Cluster, options: dict[str, Any]) -> None:
    browser = NodeBrowser(options)
    await browser.connect(running.url)

    token = await whole_login(browser, running.url)

    assert token["subject"] == "pretend:alice"
    assert await browser.transport() == "websocket"
    await browser.close()


async def test_a_page_through_nginx(chromium: pages.Browser, running: Cluster) -> None:
    page = await pages.open_page(chromium, running.site_url)
    link = f"{running.phone_url}/?scene={await pages.scene_on(page)}"
    phone = await pages.open_page(chromium, link, viewport=pages.NARROW)

    await phone.locator("#scan").click()
    await pages.shows(page, "scanned")
    await phone.locator("#allow").click()

    await expect(page.locator("h1")).to_contain_text("Signed in as", timeout=pages.WAIT_MS)


async def browser_address(http: aiohttp.ClientSession, forwarded: str, url: str) -> str:
    """The address that a phone is shown for a login begun with this X-Forwarded-For."""
    headers = {"X-Forwarded-For": forwarded}
    form = {"client_id": "default"}
    async with http.post("/oauth/device_authorization", data=form, headers=headers) as response:
        scene = (await response.json())["user_code"]
    async with PhoneClient(url) as phone:
        return str((await phone.post("scan", {"scene": scene})).body["browser"]["ip"])


async def test_an_address_is_believed_from_a_trusted_proxy_only(running: Cluster) -> None:
    async with outside(running) as http:
        assert await browser_address(http, SOMEBODY, running.url) == "127.0.0.1"
    async with behind_proxy(running) as http:
        assert await browser_address(http, SOMEBODY, running.url) == SOMEBODY
        # What stands left of it is what the client says of itself.
        assert await browser_address(http, f"{ANOTHER}, {SOMEBODY}", running.url) == SOMEBODY


@pytest.mark.parametrize(("size", "status"), [(64 * 1024, 400), (64 * 1024 + 1, 413)])
async def test_a_body_over_64_kb_is_refused(running: Cluster, size: int, status: int) -> None:
    async with (
        outside(running) as http,
        http.post("/phone/session", data=b"x" * size) as response,
    ):
        assert response.status == status
        assert (await response.json())["error"] == "invalid_request"


async def test_one_address_gets_so_many_requests_and_others_go_on(running: Cluster) -> None:
    async with behind_proxy(running) as http:

        async def ask(address: str) -> int:
            async with http.get("/version", headers={"X-Forwarded-For": address}) as response:
                if response.status == 429:
                    assert (await response.json())["error"] == "rate_limited"
                    assert response.headers["Retry-After"] == "1"
                return response.status

        statuses = collections.Counter(await asyncio.gather(*(ask(SOMEBODY) for _ in range(300))))

        assert statuses[200] >= 200
        assert statuses[429] > 0
        assert await ask(ANOTHER) == 200


@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "//metrics", "/x/../metrics"])
async def test_metrics_are_not_for_the_outside(running: Cluster, path: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(running.url).port)
    writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    assert b" 404 " in answer.partition(b"\r\n")[0]
    async with aiohttp.ClientSession() as http:
        for broker in running.brokers:
            async with http.get(f"{broker.admin_url}/metrics") as response:
                assert response.status == 200


class Fake:
    """Stands where a broker would, names itself, and counts what it is asked."""

    def __init__(self, name: str, status: int = 200) -> None:
        self.status = status
        self.asked = 0
        self.heard: Mapping[str, str] = {}
        self.application = web.Application()
        self.application.router.add_route("*", "/{path:.*}", self._answer)
        self._name = name

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked += 1
        self.heard = request.headers
        return web.Response(text=self._name, status=self.status)


@asynccontextmanager
async def fronted(folder: Path, *fakes: Fake, gone: int = 0) -> AsyncIterator[str]:
    """nginx before these brokers, and before `gone` more that do not listen; its URL."""
    port = free_port()
    async with standing(*fakes) as addresses:
        conf = nginx.render(folder, port=port, proxy=PROXY)
        nginx.write_brokers(
            folder, [*addresses, *(f"127.0.0.1:{free_port()}" for _ in range(gone))]
        )
        async with nginx_by(conf, port):
            yield f"http://127.0.0.1:{port}"


@asynccontextmanager
async def standing(*fakes: Fake) -> AsyncIterator[list[str]]:
    """The addresses that these listen on."""
    sites = [Site(str(n), one.application, "127.0.0.1", 0, "") for n, one in enumerate(fakes)]
    async with serving(sites) as urls:
        yield [urlsplit(url).netloc for url in urls.values()]


@asynccontextmanager
async def nginx_by(conf: Path, port: int) -> AsyncIterator[None]:
    need("nginx")
    process = await asyncio.create_subprocess_exec(*nginx.command(conf))
    try:
        await eventually(lambda: can_connect(port))
        yield
    finally:
        process.terminate()
        await process.wait()


async def can_connect(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def test_polling_stays_with_one_broker_and_addresses_spread(tmp_path: Path) -> None:
    async with fronted(tmp_path, Fake("one"), Fake("two")) as url:
        connector = aiohttp.TCPConnector(local_addr=(PROXY, 0))
        async with aiohttp.ClientSession(url, connector=connector) as http:

            async def who(path: str, address: str) -> str:
                async with http.get(path, headers={"X-Forwarded-For": address}) as response:
                    return await response.text()

            same = {await who("/socket.io/?EIO=4", SOMEBODY) for _ in range(10)}
            spread = {await who("/socket.io/?EIO=4", f"203.0.{n}.1") for n in range(20)}
            around = {await who("/oauth/token", SOMEBODY) for _ in range(10)}

    assert (len(same), len(spread), len(around)) == (1, 2, 2)


async def test_a_broker_that_drains_gets_no_new_sockets(tmp_path: Path) -> None:
    draining = Fake("draining", status=503)
    async with fronted(tmp_path, draining, Fake("ready")) as url, aiohttp.ClientSession() as http:
        for _ in range(6):
            async with http.get(f"{url}/socket.io/?EIO=4&transport=polling") as response:
                assert (response.status, await response.text()) == (200, "ready")


async def test_a_post_that_a_broker_has_heard_is_not_sent_twice(tmp_path: Path) -> None:
    fakes = [Fake("one", status=503), Fake("two", status=503)]
    async with fronted(tmp_path, *fakes) as url, aiohttp.ClientSession() as http:
        for _ in range(6):
            async with http.post(f"{url}/phone/confirm") as response:
                assert response.status == 503

    assert sum(fake.asked for fake in fakes) == 6


async def test_a_post_that_reached_no_broker_goes_to_the_next(tmp_path: Path) -> None:
    async with (
        fronted(tmp_path, Fake("one"), gone=2) as url,
        aiohttp.ClientSession() as http,
    ):
        for _ in range(6):
            async with http.post(f"{url}/phone/confirm") as response:
                assert (response.status, await response.text()) == (200, "one")


async def test_after_all_brokers_answered_503_they_are_asked_again_at_once(tmp_path: Path) -> None:
    """As they do while the state is down."""
    fakes = [Fake("one", status=503), Fake("two", status=503)]
    async with fronted(tmp_path, *fakes) as url, aiohttp.ClientSession() as http:
        for status in (503, 503, 200):
            for fake in fakes:
                fake.status = status
            async with http.get(f"{url}/health/ready") as response:
                assert response.status == status


async def open_session(http: aiohttp.ClientSession) -> int:
    async with http.post("/phone/session", json={"js_code": "pretend:alice"}) as response:
        return response.status


async def test_brokers_are_killed_added_and_stopped_and_the_browser_goes_on() -> None:
    need("nginx")
    need("redis-server")
    async with cluster(brokers=2, pages=False) as running, outside(running) as http:
        killed, stopped = running.brokers
        browser = NodeBrowser({})
        await browser.connect(running.url)
        begun = await browser.emit("begin", {})

        await killed.process.kill()
        assert {await open_session(http) for _ in range(6)} == {200}
        added = await running.add()

        async def is_asked() -> bool:
            await open_session(http)
            return urlsplit(added.url).netloc in (running.folder / "access.log").read_text()

        await eventually(is_asked)
        await stopped.process.stop()
        assert {await open_session(http) for _ in range(6)} == {200}
        resumed = await browser.emit("resume", secret_of(begun))

        assert stopped.process.exit_code == 0
        assert resumed["state"] == "pending"
        await browser.close()


async def test_without_a_broker_nginx_answers_in_the_protocols_words(tmp_path: Path) -> None:
    async with (
        fronted(tmp_path, gone=2) as url,
        aiohttp.ClientSession() as http,
        http.get(f"{url}/device?user_code=scene-nobody-may-log") as response,
    ):
        assert response.status == 503
        assert response.headers["Retry-After"] == "1"
        assert (await response.json())["error"] == "temporarily_unavailable"

    logs = [(tmp_path / f"{name}.log").read_text() for name in ("access", "error")]
    assert '"GET /device" 503' in logs[0]
    assert "scene-nobody-may-log" not in "".join(logs)


async def test_no_query_string_is_logged(running: Cluster) -> None:
    """A scene, a sid: in the log line, in the Referer, in the line of an error."""
    headers = {"Referer": f"{running.url}/?scene=secret-in-referer"}
    async with behind_proxy(running) as http:
        for path in ("/device?user_code=secret-a", "/socket.io/?EIO=4&sid=secret-b"):
            async with http.get(path, headers=headers) as response:
                assert response.status < 500
    async with outside(running) as http, http.post("/x?secret-c", data=b"x" * 99_999) as response:
        assert response.status == 413

    logs = [(running.folder / f"{name}.log").read_text() for name in ("access", "error", "nginx")]

    assert '"GET /device" ' in logs[0]
    assert "secret" not in "".join(logs)


def test_nginx_waits_longer_than_engine_io_is_silent() -> None:
    engine = Server(allow_origin=bool, describe=str).eio
    text = (ROOT / "deploy/scan-login/http.conf").read_text()

    for direction in ("read", "send"):
        [seconds] = re.findall(rf"proxy_{direction}_timeout (\d+)s;", text)
        assert int(seconds) > engine.ping_interval + engine.ping_timeout


def make_certificate(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "login.example")])
    today = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(today)
        .not_valid_after(today + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    form = serialization.Encoding.PEM
    (folder / "fullchain.pem").write_bytes(certificate.public_bytes(form))
    (folder / "privkey.pem").write_bytes(
        key.private_bytes(form, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def rendered(folder: Path, name: str, *ports: int) -> Path:
    """nginx' files with a certificate; ports for 443 and 80 where TLS is spoken."""
    make_certificate(folder)
    conf = nginx.render(folder, name=name, port=free_port())
    text = conf.read_text().replace("/etc/nginx/tls/", f"{folder}/")
    for usual, port in zip(("443", "80"), ports, strict=False):
        text = text.replace(f"listen {usual} ", f"listen 127.0.0.1:{port} ")
    conf.write_text(text)
    return conf


@pytest.mark.parametrize("name", ["nginx.conf", "nginx-tls.conf"])
def test_nginx_takes_its_files_without_a_word(tmp_path: Path, name: str) -> None:
    need("nginx")
    conf = rendered(tmp_path, name)

    checked = subprocess.run(nginx.command(conf, "-t", "-q"), capture_output=True, timeout=20)

    assert (checked.returncode, checked.stderr) == (0, b"")


async def test_tls_is_spoken_and_plain_http_is_sent_there(tmp_path: Path) -> None:
    fake, secure, plain = Fake("one"), free_port(), free_port()
    async with standing(fake) as addresses, aiohttp.ClientSession() as http:
        conf = rendered(tmp_path, "nginx-tls.conf", secure, plain)
        nginx.write_brokers(tmp_path, addresses)
        async with nginx_by(conf, plain):
            async with http.get(f"https://127.0.0.1:{secure}/version", ssl=False) as response:
                assert "Strict-Transport-Security" in response.headers
            url = f"http://127.0.0.1:{plain}/device?x=1"
            async with http.get(url, allow_redirects=False) as response:
                assert response.status == 308
                assert response.headers["Location"] == "https://127.0.0.1/device?x=1"

    assert fake.heard["X-Forwarded-Proto"] == "https"


class Step(NamedTuple):
    """One instruction of the Dockerfile."""

    word: str
    rest: str


def dockerfile() -> list[Step]:
    lines = (ROOT / "Dockerfile").read_text().replace("\\\n", "").splitlines()
    parts = [line.partition(" ") for line in lines if line and not line.startswith("#")]
    return [Step(word, rest.strip()) for word, _, rest in parts]


def last(word: str) -> str:
    return [step.rest for step in dockerfile() if step.word == word][-1]


def test_the_image_is_made_of_files_that_are_there_and_not_left_out() -> None:
    kept = (ROOT / ".dockerignore").read_text().splitlines()
    for step in dockerfile():
        if step.word == "COPY" and "--from=" not in step.rest:
            for source in shlex.split(step.rest)[:-1]:
                assert (ROOT / source).exists(), source
                assert f"!{source}" in kept, source


def test_the_image_runs_a_command_that_exists_and_not_as_root() -> None:
    [program] = json.loads(last("ENTRYPOINT"))
    [verb] = json.loads(last("CMD"))

    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert program in scripts
    assert verb in get_command(command).commands  # type: ignore[attr-defined]
    assert int(last("USER").split(":")[0]) > 0


def test_the_image_starts_from_a_python_that_the_broker_runs_on() -> None:
    [version] = re.findall(r"python:3\.(\d+)-slim", (ROOT / "Dockerfile").read_text())
    assert int(version) >= 11


async def test_the_images_health_check_tells_a_broker_from_none(broker: Running) -> None:
    [_, *check] = json.loads(last("HEALTHCHECK").partition("CMD")[2])

    async def exit_code(port: int) -> int:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *check,
            env={f"{PREFIX}PORT": str(port)},
            stderr=asyncio.subprocess.DEVNULL,
        )
        return await process.wait()

    assert await exit_code(broker.settings.port) == 0
    assert await exit_code(free_port()) != 0


def environment_of(service: str) -> dict[str, str]:
    image = re.findall(rf"({PREFIX}\w+)=(\S+)", last("ENV"))
    return {**dict(image), **SERVICES[service]["environment"]}


@pytest.mark.parametrize("service", ["broker-1", "broker-2"])
def test_composes_settings_are_settings_and_are_in_order(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment_of(service).items():
        monkeypatch.setenv(name, value)

    settings = load()

    assert unknown_names() == []
    assert {urlsplit(settings.public_url).netloc} <= published("nginx")
    address = SERVICES["nginx"]["networks"]["default"]["ipv4_address"]
    assert settings.trusted_proxies == (address,)
    assert any(mount.endswith(f":{settings.key_file.parent}") for mount in mounts(service))


def mounts(service: str) -> list[str]:
    return [str(mount) for mount in SERVICES[service].get("volumes", [])]


def published(service: str) -> set[str]:
    """Where the service can be reached from this machine: address:port."""
    return {str(port).rpartition(":")[0] for port in SERVICES[service].get("ports", [])}


@pytest.mark.parametrize("service", SERVICES)
def test_what_compose_names_is_there(service: str) -> None:
    said = SERVICES[service]

    for mount in mounts(service):
        source = mount.split(":")[0]
        assert source in COMPOSE["volumes"] or (ROOT / source).exists(), source
    assert set(said.get("depends_on", {})) <= set(SERVICES)
    assert said.get("network_mode", "service:nginx").removeprefix("service:") in SERVICES
    assert "build" not in said or (ROOT / said["build"] / "Dockerfile").exists()
    if "entrypoint" in said:
        assert importlib.util.find_spec(f"{said['entrypoint'][2]}.__main__")


@pytest.mark.parametrize("service", SERVICES)
def test_compose_publishes_nothing_beyond_this_machine(service: str) -> None:
    """The pretend provider believes everybody who comes."""
    assert all(address.startswith("127.0.0.1:") for address in published(service))


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_is_looked_after(service: str) -> None:
    said = SERVICES[service]
    assert said["restart"] == "unless-stopped"
    assert said["stop_grace_period"] == "15s"
    assert "healthcheck" in said or said["image"] == "scan-login"


def test_health_checks_name_routes_that_exist(tmp_path: Path) -> None:
    settings = Settings(key_file=tmp_path / "keys.json")
    routes = {
        "nginx": build(settings).public,
        "site": make_site(broker_url=settings.public_url),
        "phone": make_phone(broker_url=settings.public_url),
    }
    for service, application in routes.items():
        [path] = re.findall(
            r"http://127\.0\.0\.1:\d+(/[\w/]*)", " ".join(SERVICES[service]["healthcheck"]["test"])
        )
        known = {
            route.resource.canonical for route in application.router.routes() if route.resource
        }
        assert path in known, f"{service}: {path}"


def test_composes_nginx_asks_the_brokers_that_there_are() -> None:
    text = (ROOT / "deploy/compose/brokers.conf").read_text()
    named = re.findall(r"^server ([\w-]+):8000 max_fails=0;$", text, re.MULTILINE)
    assert set(named) == {name for name in SERVICES if name.startswith("broker")}


async def test_demo_cluster_greets_and_ends_by_one_ctrl_c() -> None:
    need("nginx")
    need("redis-server")
    ports = {name: str(free_port()) for name in USUAL_PORTS}
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


@pytest.mark.parametrize("name", USUAL_PORTS)
def test_demo_cluster_says_which_port_is_taken(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        taken = listener.getsockname()[1]
        for each in USUAL_PORTS:
            monkeypatch.setenv(each, str(taken if each == name else free_port()))

        with pytest.raises(PortTaken, match=f"port {taken} is taken: choose another with {name}="):
            chosen_ports()
