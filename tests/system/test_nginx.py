"""The nginx configuration in front of fake brokers, which count their requests."""

from __future__ import annotations

import asyncio
import datetime
import io
import re
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from broker.infrastructure.runtime.server import Site, serve_sites
from broker.infrastructure.transport.engines import open_server
from broker.infrastructure.transport.settings import ENGINES
from deploy import nginx
from tests.support.deployment import HSTS_HOSTS
from tests.support.environment import ROOT, free_port, need
from tests.support.nginx import can_connect
from tests.support.waiting import eventually

PROXY = "127.0.0.2"
"""Address of a proxy that nginx trusts."""

CLIENT = "203.0.113.9"


class FakeBroker:
    """A fake broker that answers with its name and counts its requests."""

    def __init__(self, name: str, status: int = 200) -> None:
        self.status = status
        self.requests = 0
        self.headers_received: Mapping[str, str] = {}
        self.application = web.Application()
        self.application.router.add_route("*", "/{path:.*}", self._answer)
        self._name = name

    async def _answer(self, request: web.Request) -> web.Response:
        self.requests += 1
        self.headers_received = request.headers
        return web.Response(text=self._name, status=self.status)


@asynccontextmanager
async def nginx_with(folder: Path, *fakes: FakeBroker, unreachable: int = 0) -> AsyncIterator[str]:
    """Run nginx in front of these brokers and `unreachable` others; yields its URL."""
    port = free_port()
    async with serving_fakes(*fakes) as addresses:
        conf = nginx.render(folder, port=port, proxy=PROXY)
        nginx.write_brokers(
            folder, [*addresses, *(f"127.0.0.1:{free_port()}" for _ in range(unreachable))]
        )
        async with nginx_by(conf, port):
            yield f"http://127.0.0.1:{port}"


@asynccontextmanager
async def serving_fakes(*fakes: FakeBroker) -> AsyncIterator[list[str]]:
    """Serve the fake brokers, and yield their addresses."""
    sites = [Site(str(n), item.application, "127.0.0.1", 0, "") for n, item in enumerate(fakes)]
    async with serve_sites(sites) as urls:
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


async def test_polling_of_one_address_uses_one_broker(tmp_path: Path) -> None:
    async with nginx_with(tmp_path, FakeBroker("one"), FakeBroker("two")) as url:
        connector = aiohttp.TCPConnector(local_addr=(PROXY, 0))
        async with aiohttp.ClientSession(url, connector=connector) as http:

            async def answering_broker(path: str, address: str) -> str:
                async with http.get(path, headers={"X-Forwarded-For": address}) as response:
                    return await response.text()

            same = {await answering_broker("/socket.io/?EIO=4", CLIENT) for _ in range(10)}
            spread = {
                await answering_broker("/socket.io/?EIO=4", f"203.0.{n}.1") for n in range(20)
            }
            other_paths = {await answering_broker("/oauth/token", CLIENT) for _ in range(10)}

    assert (len(same), len(spread), len(other_paths)) == (1, 2, 2)


async def test_draining_broker_gets_no_new_sockets(tmp_path: Path) -> None:
    draining = FakeBroker("draining", status=503)
    async with (
        nginx_with(tmp_path, draining, FakeBroker("ready")) as url,
        aiohttp.ClientSession() as http,
    ):
        for _ in range(6):
            async with http.get(f"{url}/socket.io/?EIO=4&transport=polling") as response:
                assert (response.status, await response.text()) == (200, "ready")


async def test_post_received_by_broker_is_not_repeated(tmp_path: Path) -> None:
    fakes = [FakeBroker("one", status=503), FakeBroker("two", status=503)]
    async with nginx_with(tmp_path, *fakes) as url, aiohttp.ClientSession() as http:
        for _ in range(6):
            async with http.post(f"{url}/phone/confirm") as response:
                assert response.status == 503

    assert sum(fake.requests for fake in fakes) == 6


async def test_post_to_unreachable_broker_goes_to_next(tmp_path: Path) -> None:
    async with (
        nginx_with(tmp_path, FakeBroker("one"), unreachable=2) as url,
        aiohttp.ClientSession() as http,
    ):
        for _ in range(6):
            async with http.post(f"{url}/phone/confirm") as response:
                assert (response.status, await response.text()) == (200, "one")


async def test_brokers_are_tried_again_after_503(tmp_path: Path) -> None:
    """Brokers answer 503 while the state is unavailable."""
    fakes = [FakeBroker("one", status=503), FakeBroker("two", status=503)]
    async with nginx_with(tmp_path, *fakes) as url, aiohttp.ClientSession() as http:
        for status in (503, 503, 200):
            for fake in fakes:
                fake.status = status
            async with http.get(f"{url}/health/ready") as response:
                assert response.status == status


SERVER_PATHS = [
    "/oauth/token",
    "/sessions/check",
    "/tunnels",
    "/tunnels/push",
    "/mina_auth/",
    "/get/wsurl",
    "/wafer/red/ws/push",
    f"/tunnels/{'A' * 22}",
    f"/tunnels/{'A' * 22}/push",
]


async def test_servers_of_apps_have_their_own_request_limit(tmp_path: Path) -> None:
    async with (
        nginx_with(tmp_path, FakeBroker("one")) as url,
        aiohttp.ClientSession(url) as http,
    ):

        async def status(path: str) -> int:
            async with http.get(path) as response:
                return response.status

        of_app = await asyncio.gather(*(status(path) for path in SERVER_PATHS * 100))
        of_browser = await asyncio.gather(*(status("/oauth/login") for _ in range(2000)))

    assert 429 not in of_app
    assert 429 in of_browser


async def test_large_body_is_allowed_for_pushes_only(tmp_path: Path) -> None:
    async with (
        nginx_with(tmp_path, FakeBroker("one")) as url,
        aiohttp.ClientSession(url) as http,
    ):
        statuses = {}
        for path in SERVER_PATHS:
            async with http.post(path, data=b"x" * 500_000) as response:
                statuses[path] = response.status

    accepted = {path for path, status in statuses.items() if status == 200}
    assert accepted == {path for path in SERVER_PATHS if path.endswith("/push")}
    assert {*statuses.values()} == {200, 413}


@pytest.mark.parametrize(("size", "status"), [(10_500_000, 200), (12_000_000, 413)])
async def test_upload_may_have_ten_megabytes(tmp_path: Path, size: int, status: int) -> None:
    async with (
        nginx_with(tmp_path, FakeBroker("one")) as url,
        aiohttp.ClientSession(url) as http,
        http.post("/files", data=io.BytesIO(b"x" * size)) as response,
    ):
        assert response.status == status
        assert status == 200 or (await response.json())["error"] == "too_large"


async def test_access_log_has_no_ticket_of_tunnel(tmp_path: Path) -> None:
    log = tmp_path / "access.log"

    async with (
        nginx_with(tmp_path, FakeBroker("one")) as url,
        aiohttp.ClientSession(url) as http,
    ):
        async with http.get(f"/tunnel/{'t' * 43}") as response:
            assert response.status == 200

        await eventually(lambda: "/tunnel/" in log.read_text())

    assert "ttt" not in log.read_text()


async def test_nginx_without_broker_answers_with_error_word(tmp_path: Path) -> None:
    async with (
        nginx_with(tmp_path, unreachable=2) as url,
        aiohttp.ClientSession() as http,
        http.get(f"{url}/device?user_code=scene-not-for-logs") as response,
    ):
        assert response.status == 503
        assert response.headers["Retry-After"] == "1"
        assert (await response.json())["error"] == "temporarily_unavailable"

    logs = [(tmp_path / f"{name}.log").read_text() for name in ("access", "error")]
    assert '"GET /device" 503' in logs[0]
    assert "scene-not-for-logs" not in "".join(logs)


@pytest.mark.parametrize("name", ENGINES)
def test_nginx_timeout_exceeds_engine_io_heartbeat(name: str) -> None:
    engine = open_server(name, is_origin_allowed=bool, describe_request=str).eio
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
    """Write the nginx configuration with a certificate.

    ports: replacements of 443 and 80.
    """
    make_certificate(folder)
    conf = nginx.render(folder, name=name, port=free_port())
    text = conf.read_text().replace("/etc/nginx/tls/", f"{folder}/")
    for usual, port in zip(("443", "80"), ports, strict=False):
        text = text.replace(f"listen {usual} ", f"listen 127.0.0.1:{port} ")
    conf.write_text(text)
    return conf


@pytest.mark.parametrize("name", ["nginx.conf", "nginx-tls.conf"])
def test_nginx_accepts_configuration_without_warning(tmp_path: Path, name: str) -> None:
    need("nginx")
    conf = rendered(tmp_path, name)

    checked = subprocess.run(nginx.command(conf, "-t", "-q"), capture_output=True, timeout=60)

    assert (checked.returncode, checked.stderr) == (0, b"")


async def test_plain_http_is_redirected_to_tls(tmp_path: Path) -> None:
    fake, secure, plain = FakeBroker("one"), free_port(), free_port()
    async with serving_fakes(fake) as addresses, aiohttp.ClientSession() as http:
        conf = rendered(tmp_path, "nginx-tls.conf", secure, plain)
        nginx.write_brokers(tmp_path, addresses)
        async with nginx_by(conf, plain):
            async with http.get(f"https://127.0.0.1:{secure}/version", ssl=False) as response:
                assert response.status == 200
            url = f"http://127.0.0.1:{plain}/device?x=1"
            async with http.get(url, allow_redirects=False) as response:
                assert response.status == 308
                assert response.headers["Location"] == "https://127.0.0.1/device?x=1"

    assert fake.headers_received["X-Forwarded-Proto"] == "https"


async def test_hsts_is_sent_for_public_names_only(tmp_path: Path) -> None:
    secure = free_port()
    hosts = {**HSTS_HOSTS, "localhost.": False, "[::1]": False}
    sent = {}
    async with serving_fakes(FakeBroker("one")) as addresses:
        conf = rendered(tmp_path, "nginx-tls.conf", secure, free_port())
        nginx.write_brokers(tmp_path, addresses)
        async with (
            nginx_by(conf, secure),
            aiohttp.ClientSession(f"https://127.0.0.1:{secure}") as http,
        ):
            for host in hosts:
                headers = {"Host": f"{host}:{secure}"}
                async with http.get("/version", headers=headers, ssl=False) as response:
                    assert response.status == 200, host
                    sent[host] = "Strict-Transport-Security" in response.headers

    assert sent == hosts


@pytest.mark.parametrize("forwarded_for", ["203.0.113.9:40000", "[2001:db8::1]:4711"])
async def test_nginx_passes_one_client_address(tmp_path: Path, forwarded_for: str) -> None:
    fake = FakeBroker("one")
    async with nginx_with(tmp_path, fake) as url:
        connector = aiohttp.TCPConnector(local_addr=(PROXY, 0))
        async with aiohttp.ClientSession(url, connector=connector) as http:
            headers = {"X-Forwarded-For": forwarded_for, "Forwarded": "for=198.51.100.1"}
            async with http.get("/version", headers=headers) as response:
                assert response.status == 200

    assert fake.headers_received["X-Forwarded-For"] == forwarded_for.rpartition(":")[0].strip("[]")
    assert "Forwarded" not in fake.headers_received
