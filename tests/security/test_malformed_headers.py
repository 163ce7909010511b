"""Header bytes that are not UTF-8, and other malformed headers, get an error body."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterable
from typing import NamedTuple
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web

from broker.infrastructure.api.errors import ERRORS
from mp_stub.phone_page import build_phone_page
from tests.support.builders import RunningBroker, StartBroker
from tests.support.http_site import serving
from web_demo.site import build_site

TOKEN = "t" * 32
PROOF = b"Authorization: Bearer " + TOKEN.encode()
BAD = b"\xff\xfe"
HEADERS = {
    "bearer": b"Authorization: Bearer " + BAD,
    "bearer session": b"Authorization: Bearer " + b"A" * 22 + b"." + BAD,
    "basic": b"Authorization: Basic " + BAD,
    "scheme": b"Authorization: " + BAD,
    "origin": b"Origin: https://" + BAD,
    "host": b"Host: " + BAD,
    "host with bad port": b"Host: x:y:z",
    "cookie": b"Cookie: a=" + BAD + b"; lang=" + BAD,
    "forwarded for": b"X-Forwarded-For: " + BAD,
    "forwarded": b"Forwarded: for=" + BAD,
    "forwarded proto": b"X-Forwarded-Proto: " + BAD,
    "user agent": b"User-Agent: " + BAD,
    "language": b"Accept-Language: " + BAD,
    "accept": b"Accept: " + BAD,
    "content type": b"Content-Type: application/json; charset=" + BAD,
    "charset": b"Content-Type: application/x-www-form-urlencoded; charset=nonsense",
    "charset bytes": b"Content-Type: application/x-www-form-urlencoded; charset=" + BAD,
    "multipart": b"Content-Type: multipart/form-data; boundary=" + BAD,
    "if none match": b"If-None-Match: " + BAD,
    "if modified": b"If-Modified-Since: " + BAD,
    "if range": b"Range: bytes=0-1\r\nIf-Range: " + BAD,
    "range": b"Range: bytes=" + BAD,
    "wafer id": b"X-WX-Id: " + BAD + b"\r\nX-WX-Skey: x",
    "wafer skey": b"X-WX-Id: " + b"A" * 22 + b"\r\nX-WX-Skey: " + BAD,
    "encoding": b"Content-Encoding: " + BAD,
    "upgrade": b"Connection: Upgrade\r\nUpgrade: " + BAD,
    "connection": b"Connection: " + BAD,
    "websocket key": b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: " + BAD,
    "websocket version": b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: " + BAD,
    "protocol": b"Sec-WebSocket-Protocol: " + BAD,
    "unknown": b"X-Unknown: " + BAD,
}
SOCKET_PATHS = (
    "/socket.io/",
    "/socket.io/?EIO=4&transport=polling",
    "/socket.io/?EIO=4&transport=websocket",
)
EXPECTATIONS = {
    "expect": b"Expect: foo",
    "expect bytes": b"Expect: " + BAD,
    "expect more": b"Expect: 100-continue, foo",
}
QUERIES = ["?%ff=%fe", "?%", "?a=%zz", "?EIO=4&transport=%ff", "?EIO=4&transport=polling&sid=%ff"]
MALFORMED = {
    "length": b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "transfer encoding": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: foo\r\n\r\n",
    "version": b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    "method": b"G\xffT / HTTP/1.1\r\nHost: x\r\n\r\n",
    "target": b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    "header name": b"GET / HTTP/1.1\r\nHost: x\r\nX\xff: y\r\n\r\n",
    "header value": b"GET / HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n",
    "long header": b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 20_000 + b"\r\n\r\n",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
}


class Reply(NamedTuple):
    status: int
    headers: str
    body: bytes


class Route(NamedTuple):
    base: str
    method: str
    path: str

    def request(self, header: bytes, query: str = "") -> bytes:
        host = b"" if b"Host: " in header else b"Host: localhost\r\n"
        close = b"" if b"Connection: " in header else b"Connection: close\r\n"
        line = f"{self.method} {self.path}{query} HTTP/1.1\r\n".encode()
        return line + host + close + header + b"\r\nContent-Length: 2\r\n\r\n{}"


async def send(base: str, request: bytes) -> Reply:
    """Send raw bytes, and return the first answer."""
    address = urlsplit(base)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(request)
    try:
        async with asyncio.timeout(30):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            found = re.search(r"(?i)content-length: (\d+)", head)
            body = await reader.readexactly(int(found[1])) if found else b""
    finally:
        writer.close()
    return Reply(int(head.split(" ")[1]), head, body)


@pytest.fixture
async def broker(start_broker: StartBroker) -> RunningBroker:
    return await start_broker(admin_token=TOKEN, directory="sql", misses_per_minute=1_000_000)


@pytest.fixture
async def routes(broker: RunningBroker) -> list[Route]:
    """Every route of both ports, and some that do not exist."""
    found = []
    async with aiohttp.ClientSession() as http:
        for base in (broker.url, broker.admin):
            async with http.get(f"{base}/openapi.json") as response:
                paths = (await response.json())["paths"]
            found += [
                Route(base, method.upper(), re.sub(r"\{[^}]*\}", "x", path))
                for path, methods in paths.items()
                for method in methods
                if method in ("get", "post", "put", "patch", "delete")
            ]
    additional = [
        *(("GET", path) for path in SOCKET_PATHS),
        ("POST", "/socket.io/"),
        ("GET", "/nowhere"),
        ("DELETE", "/health/live"),
        ("GET", "/scan-login.js"),
        ("GET", "/device"),
        ("OPTIONS", "/oauth/token"),
    ]
    return found + [Route(broker.url, *item) for item in additional]


def is_error_body(reply: Reply) -> bool:
    """Return whether it is the broker's error body, or that of Engine.IO."""
    try:
        body = json.loads(reply.body)
    except ValueError:
        return False
    return {"error", "error_description"} <= set(body) or {"code", "message"} == set(body)


async def failures(routes: Iterable[Route], header: bytes, query: str = "") -> list[str]:
    """The routes whose answer is a 5xx, or an error without an error body."""
    found_failures = []
    for route in routes:
        reply = await send(route.base, route.request(header, query))
        page = "text/html" in reply.headers
        if reply.status >= 500 or (reply.status >= 400 and not page and not is_error_body(reply)):
            found_failures.append(
                f"{route.method} {route.path}: {reply.status} {reply.body[:80]!r}"
            )
    return found_failures


@pytest.mark.parametrize("header", HEADERS)
async def test_malformed_header_causes_no_5xx(routes: list[Route], header: str) -> None:
    assert len(routes) > 20
    before = unavailable()

    assert await failures(routes, HEADERS[header]) == []
    assert unavailable() == before


async def test_malformed_header_causes_no_5xx_with_stock_engine(
    start_broker: StartBroker,
) -> None:
    broker = await start_broker(engine="stock")
    routes = [Route(broker.url, "GET", path) for path in SOCKET_PATHS]

    for header in HEADERS.values():
        assert all([(await send(broker.url, item.request(header))).status < 500 for item in routes])


def unavailable() -> float:
    value: float = ERRORS.labels("temporarily_unavailable")._value.get()
    return value


@pytest.mark.parametrize("path", ["%ff%fe", "%00", "%2e%2e%2f", "a%", "%ed%a0%80"])
async def test_malformed_path_causes_no_5xx(routes: list[Route], path: str) -> None:
    named = [route._replace(path=route.path.replace("/x", f"/{path}")) for route in routes]

    assert await failures([item for item in named if path in item.path], PROOF) == []


@pytest.mark.parametrize("query", QUERIES)
async def test_malformed_query_causes_no_5xx(routes: list[Route], query: str) -> None:
    plain = [route for route in routes if "?" not in route.path]

    assert await failures(plain, PROOF, query) == []


@pytest.mark.parametrize("header", EXPECTATIONS)
async def test_unknown_expectation_is_417(routes: list[Route], header: str) -> None:
    for route in routes:
        reply = await send(route.base, route.request(EXPECTATIONS[header]))

        assert reply.status == 417, route
        assert json.loads(reply.body)["error"] == "invalid_request"


async def test_expected_continue_is_sent(broker: RunningBroker) -> None:
    request = Route(broker.url, "POST", "/phone/session").request(b"Expect: 100-continue")

    assert (await send(broker.url, request)).status == 100


@pytest.mark.parametrize("request_name", MALFORMED)
async def test_malformed_request_is_400_with_error_body(
    broker: RunningBroker, request_name: str
) -> None:
    for base in (broker.url, broker.admin):
        reply = await send(base, MALFORMED[request_name])

        assert reply.status in (400, 404)
        assert is_error_body(reply)
        assert "aiohttp" not in reply.headers
        assert (await send(base, b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")).status in (
            200,
            404,
        )


@pytest.mark.parametrize("path", ["/apps", "/users"])
async def test_non_utf8_admin_token_is_401(broker: RunningBroker, path: str) -> None:
    reply = await send(broker.admin, Route("", "GET", path).request(HEADERS["bearer"]))

    assert reply.status == 401


@pytest.mark.parametrize("header", ["bearer", "basic", "scheme"])
async def test_non_utf8_credentials_are_401(broker: RunningBroker, header: str) -> None:
    for path in ("/sessions/check", "/phone/scan"):
        reply = await send(broker.url, Route("", "POST", path).request(HEADERS[header]))

        assert reply.status == 401


# ---- two Origins ----

ALLOWED = "https://shop.example"
SOCKETS = {
    "polling": b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\n",
    "websocket": b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\n"
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
}


@pytest.fixture(params=["own", "stock"])
async def shop(request: pytest.FixtureRequest, start_broker: StartBroker) -> str:
    return (await start_broker(engine=request.param, origins=ALLOWED)).url


@pytest.mark.parametrize("transport", SOCKETS)
async def test_handshake_with_two_origins_is_refused(shop: str, transport: str) -> None:
    origin = f"Origin: {ALLOWED}\r\n".encode()

    assert (await send(shop, SOCKETS[transport] + origin + b"\r\n")).status in (101, 200)
    for second in (origin, b"Origin: https://evil.example\r\n", b"Origin: \r\n"):
        assert (await send(shop, SOCKETS[transport] + origin + second + b"\r\n")).status == 400
        assert (await send(shop, SOCKETS[transport] + second + origin + b"\r\n")).status == 400


async def test_request_with_two_origins_is_refused(shop: str) -> None:
    two = f"Origin: {ALLOWED}\r\nOrigin: https://evil.example".encode()
    form = b"\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 17\r\n"
    requests = [
        b"POST /oauth/device_authorization HTTP/1.1\r\nHost: x\r\n" + two + form,
        b"POST /phone/session HTTP/1.1\r\nHost: x\r\n" + two + form,
    ]
    for request in requests:
        reply = await send(shop, request + b"\r\nclient_id=default")

        assert reply.status in (400, 401, 403)
        assert "Access-Control-Allow-Origin" not in reply.headers


LOGIN_FORM = (
    b"POST /oauth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\n"
)


@pytest.mark.parametrize(
    ("own", "foreign"),
    [
        ("Origin: {url}", "Origin: https://evil.example"),
        ("Origin: {url}", "Origin: {url}"),
        ("Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site"),
    ],
)
async def test_login_form_with_two_origins_is_refused(
    broker: RunningBroker, own: str, foreign: str
) -> None:
    first, second = (f"{line}\r\n".format(url=broker.url).encode() for line in (own, foreign))

    assert (await send(broker.url, LOGIN_FORM + first + b"\r\n")).status == 400
    for lines in (first + second, second + first):
        assert (await send(broker.url, LOGIN_FORM + lines + b"\r\n")).status == 403


# ---- the example site and the phone's page, without the broker's server ----


@pytest.fixture(params=["site", "phone"])
async def page(request: pytest.FixtureRequest, broker: RunningBroker) -> AsyncIterator[str]:
    makers: dict[str, Callable[..., web.Application]] = {
        "site": build_site,
        "phone": build_phone_page,
    }
    async with serving(makers[request.param](broker_url=broker.url)) as port:
        yield f"http://127.0.0.1:{port}"


PAGES = [
    ("GET", "/"),
    ("GET", "/account"),
    ("POST", "/session"),
    ("POST", "/sign-out"),
    ("POST", "/api/scan"),
    ("GET", "/nowhere"),
]


async def test_malformed_header_causes_no_5xx_at_example_pages(page: str) -> None:
    routes = [Route(page, method, path) for method, path in PAGES]

    for header in HEADERS.values():
        assert await failures(routes, header) == []


async def test_unknown_expectation_is_417_at_example_pages(page: str) -> None:
    for header in EXPECTATIONS.values():
        reply = await send(page, Route(page, "GET", "/").request(header))

        assert reply.status == 417
        assert is_error_body(reply)


async def test_expected_continue_is_sent_by_example_pages(page: str) -> None:
    request = Route(page, "GET", "/").request(b"Expect: 100-continue")

    assert (await send(page, request)).status == 100


@pytest.mark.parametrize("path", ["/session", "/sign-out", "/api/scan"])
async def test_post_with_two_origins_is_refused_by_example_pages(page: str, path: str) -> None:
    two = f"Origin: {page}\r\nOrigin: https://evil.example\r\nContent-Type: application/json"
    host = f"\r\nHost: {urlsplit(page).netloc}".encode()

    reply = await send(page, Route(page, "POST", path).request(two.encode() + host))

    assert reply.status in (403, 404)
