"""Tests of the HTTP client for webhooks that receive many requests."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest
import uvloop
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from broker.infrastructure.outbound.http import HTTPResponse
from broker.infrastructure.outbound.http_response import ResponseParser
from broker.infrastructure.outbound.keep_alive import IDLE_TIMEOUT, KeepAliveClient
from broker.infrastructure.outbound.ssrf import AddressInfo
from broker.infrastructure.outbound.webhook import SignedRequest, WebhookFailed
from tests.support.certificate import certificate
from tests.support.environment import free_port
from tests.support.http_site import serving
from tests.support.loop_clock import LoopClock
from tests.support.raw_server import RawRequest, raw_server
from tests.support.waiting import eventually

HOST = "site.example"
REQUEST = SignedRequest(b'{"seq":1}', {"Content-Type": "application/json", "webhook-id": "t.1"})
MAX_BYTES = 16 * 1024
SHORT = 0.05
"""Seconds for an answer that never arrives."""

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
OK_RESPONSE = HTTPResponse(200, "application/json", b"{}")


class Addresses:
    """A resolver whose answer a test sets."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.asked = 0

    async def __call__(self, host: str, port: int) -> Sequence[AddressInfo]:
        self.asked += 1
        return [
            (
                socket.AF_INET6 if ":" in address else socket.AF_INET,
                socket.SOCK_STREAM,
                0,
                "",
                (address, port),
            )
            for address in self.addresses
        ]


@pytest.fixture
async def client() -> AsyncIterator[KeepAliveClient]:
    client = KeepAliveClient(allow_private_address=True)
    await client.open()
    yield client
    await client.close()


async def post(client: KeepAliveClient, port: int, path: str = "/hook") -> HTTPResponse:
    async with asyncio.timeout(60):
        url = f"http://127.0.0.1:{port}{path}"
        return await client.post(url, REQUEST, max_bytes=MAX_BYTES, seconds=60)


async def ok(request: RawRequest) -> None:
    await request.write(OK)


async def test_request_has_the_body_and_the_fields(client: KeepAliveClient) -> None:
    async with raw_server(ok) as server:
        assert await post(client, server.port, "/hook?a=%20b") == OK_RESPONSE

        [request] = server.requests
    lines = request.head.decode().split("\r\n")
    assert lines[0] == "POST /hook?a=%20b HTTP/1.1"
    assert {
        f"Host: 127.0.0.1:{server.port}",
        "Content-Length: 9",
        "Content-Type: application/json",
        "webhook-id: t.1",
        "User-Agent: scan-login",
        "Accept-Encoding: identity",
    } <= {*lines}
    assert request.body == REQUEST.body


async def test_requests_share_a_connection(client: KeepAliveClient) -> None:
    async with raw_server(ok) as server:
        for _ in range(3):
            await post(client, server.port)

        assert server.connections == 1


async def test_concurrent_requests_have_separate_connections(client: KeepAliveClient) -> None:
    both_are_open = asyncio.Event()

    async def answer(request: RawRequest) -> None:
        if request.connection == 2:
            both_are_open.set()
        await both_are_open.wait()
        await request.write(OK)

    async with raw_server(answer) as server:
        responses = await asyncio.gather(*(post(client, server.port) for _ in range(2)))

    assert responses == [OK_RESPONSE, OK_RESPONSE]


@pytest.mark.parametrize(
    "answer",
    [
        OK.replace(b"200 OK", b"200 OK\r\nConnection: close"),
        OK + b"more",
        OK + OK,
        OK.replace(b"1.1", b"1.0"),
    ],
    ids=["close", "rest", "second answer", "HTTP/1.0"],
)
async def test_connection_in_doubt_is_not_used_again(
    client: KeepAliveClient, answer: bytes
) -> None:
    async def reply(request: RawRequest) -> None:
        await request.write(answer)

    async with raw_server(reply) as server:
        for _ in range(2):
            assert await post(client, server.port) == OK_RESPONSE

        assert server.connections == 2


async def test_answer_without_a_request_closes_the_connection(
    client: KeepAliveClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it could be taken for the answer to the next request."""
    monkeypatch.setattr("broker.infrastructure.outbound.keep_alive.IDLE_TIMEOUT", 3600.0)
    forged = OK.replace(b"{}", b"[]")

    async with raw_server(ok) as server:
        await post(client, server.port)
        await server.requests[0].write(forged)
        await eventually(server.requests[0].writer.is_closing)

        assert await post(client, server.port) == OK_RESPONSE


async def test_request_on_a_stale_connection_is_sent_again(client: KeepAliveClient) -> None:
    async def answer(request: RawRequest) -> None:
        if len(server.requests) == 2:
            request.writer.close()  # as if the server closed it before the request arrived
            await request.writer.wait_closed()
            raise ConnectionResetError
        await request.write(OK)

    async with raw_server(answer) as server:
        await post(client, server.port)

        assert await post(client, server.port) == OK_RESPONSE
        assert [request.connection for request in server.requests] == [1, 1, 2]


async def test_request_on_a_new_connection_is_not_sent_again(client: KeepAliveClient) -> None:
    async def answer(request: RawRequest) -> None:
        raise ConnectionResetError

    async with raw_server(answer) as server:
        with pytest.raises(WebhookFailed, match="the server closed the connection"):
            await post(client, server.port)

        assert len(server.requests) == 1


async def test_request_with_a_partial_answer_is_not_sent_again(client: KeepAliveClient) -> None:
    async def answer(request: RawRequest) -> None:
        await request.write(OK if len(server.requests) == 1 else OK[:-1])
        if len(server.requests) == 2:
            raise ConnectionResetError

    async with raw_server(answer) as server:
        await post(client, server.port)
        with pytest.raises(WebhookFailed, match="connection"):
            await post(client, server.port)

        assert len(server.requests) == 2


async def test_cancelled_request_closes_its_connection(client: KeepAliveClient) -> None:
    """Its late answer must not be taken for that of the next request."""
    may_answer = asyncio.Event()

    async def answer(request: RawRequest) -> None:
        if len(server.requests) == 2:
            await may_answer.wait()
            await request.write(OK.replace(b"{}", b"[]"))
        else:
            await request.write(OK)

    async with raw_server(answer) as server:
        await post(client, server.port)
        late = asyncio.create_task(post(client, server.port))
        await eventually(lambda: len(server.requests) == 2)
        late.cancel()
        await asyncio.wait([late])
        may_answer.set()

        assert await post(client, server.port) == OK_RESPONSE
        assert server.connections == 2


async def test_late_answer_is_a_timeout(client: KeepAliveClient) -> None:
    may_answer = asyncio.Event()

    async def answer(request: RawRequest) -> None:
        if len(server.requests) == 1:
            await may_answer.wait()
        await request.write(OK)

    async with raw_server(answer) as server:
        url = f"http://127.0.0.1:{server.port}/"
        with pytest.raises(TimeoutError):
            await client.post(url, REQUEST, max_bytes=MAX_BYTES, seconds=SHORT)
        may_answer.set()

        assert await post(client, server.port) == OK_RESPONSE
        assert server.connections == 2


async def test_slow_resolver_is_a_timeout() -> None:
    async def resolve(host: str, port: int) -> Sequence[AddressInfo]:
        await asyncio.Event().wait()
        return []

    client = KeepAliveClient(allow_private_address=False, resolve=resolve)
    await client.open()

    with pytest.raises(TimeoutError):
        await client.post(f"https://{HOST}/", REQUEST, max_bytes=MAX_BYTES, seconds=SHORT)


async def test_idle_connection_is_closed(client: KeepAliveClient, loop_clock: LoopClock) -> None:
    async with raw_server(ok) as server:
        await post(client, server.port)
        await loop_clock.move(2 * IDLE_TIMEOUT)

        await post(client, server.port)

        assert server.connections == 2


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 16385\r\n\r\n", "response too large: over 16 KB"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "invalid response: invalid status line or field"),
    ],
    ids=["large", "malformed"],
)
async def test_invalid_answer_is_an_error(
    client: KeepAliveClient, answer: bytes, reason: str
) -> None:
    async def reply(request: RawRequest) -> None:
        await request.write(answer)

    async with raw_server(reply) as server:
        with pytest.raises(WebhookFailed, match=reason):
            await post(client, server.port)


async def test_redirect_is_not_followed(client: KeepAliveClient) -> None:
    async def reply(request: RawRequest) -> None:
        await request.write(
            b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n"
        )

    async with raw_server(reply) as server:
        assert (await post(client, server.port)).status == 307
        assert len(server.requests) == 1


async def test_refused_connection_is_an_error(client: KeepAliveClient) -> None:
    with pytest.raises(WebhookFailed, match="connection failed"):
        await post(client, free_port())


@pytest.mark.parametrize(
    "url",
    ["http://user:word@host/", "ftp://host/", "http:///", "http://host/é", "http://a..b/"],
)
async def test_invalid_url_is_an_error(client: KeepAliveClient, url: str) -> None:
    with pytest.raises(WebhookFailed, match="invalid URL"):
        await client.post(url, REQUEST, max_bytes=MAX_BYTES, seconds=60)


async def large(request: web.Request) -> web.StreamResponse:
    return web.Response(body=b"x" * MAX_BYTES)


async def chunked(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    response.enable_chunked_encoding()
    await response.prepare(request)
    for part in (b"x" * 1000, b"y", b"z" * 5000):
        await response.write(part)
    return response


async def empty(request: web.Request) -> web.StreamResponse:
    return web.Response(status=204)


CHUNKED_BODY = b"x" * 1000 + b"y" + b"z" * 5000


@asynccontextmanager
async def aiohttp_server() -> AsyncIterator[int]:
    """Serve answers of several kinds. Yields the port."""
    application = web.Application()
    application.router.add_post("/large", large)
    application.router.add_post("/chunked", chunked)
    application.router.add_post("/empty", empty)
    async with serving(application) as port:
        yield port


async def test_answers_of_aiohttp_are_read(client: KeepAliveClient) -> None:
    async with aiohttp_server() as port:
        for _ in range(2):
            assert (await post(client, port, "/large")).content == b"x" * MAX_BYTES
            assert (await post(client, port, "/chunked")).content == CHUNKED_BODY
            assert (await post(client, port, "/empty")).status == 204
            assert (await post(client, port, "/unknown")).status == 404


async def raw_answer(port: int, path: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n" % path.encode())
    writer.write(b"Connection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize(
    ("path", "body"), [("/large", b"x" * MAX_BYTES), ("/chunked", CHUNKED_BODY), ("/empty", b"")]
)
async def test_answers_of_aiohttp_are_read_in_any_parts(path: str, body: bytes) -> None:
    async with aiohttp_server() as port:
        answer = await raw_answer(port, path)

    @given(st.lists(st.integers(1, len(answer) - 1), max_size=12))
    def check(cuts: list[int]) -> None:
        parser, places = ResponseParser(MAX_BYTES), sorted({0, *cuts, len(answer)})
        responses = [parser.feed(answer[a:b]) for a, b in pairwise(places)]
        assert responses[:-1] == [None] * (len(responses) - 1)
        assert responses[-1] is not None
        assert responses[-1].content == body

    check()


@pytest.fixture
def server_tls(tmp_path: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate(tmp_path, HOST)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    return context


async def post_over_tls(
    port: int, tls: ssl.SSLContext | None, resolve: Addresses, *, is_private: bool = True
) -> HTTPResponse:
    client = KeepAliveClient(allow_private_address=is_private, tls=tls, resolve=resolve)
    await client.open()
    try:
        async with asyncio.timeout(60):
            return await client.post(
                f"https://{HOST}:{port}/", REQUEST, max_bytes=MAX_BYTES, seconds=60
            )
    finally:
        await client.close()


async def test_certificate_is_checked(server_tls: ssl.SSLContext, tmp_path: Path) -> None:
    trust = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    async with raw_server(ok, server_tls) as server:
        assert await post_over_tls(server.port, trust, Addresses("127.0.0.1")) == OK_RESPONSE
        with pytest.raises(WebhookFailed, match="certificate verify failed"):
            await post_over_tls(server.port, None, Addresses("127.0.0.1"))

        assert len(server.requests) == 1


async def test_next_address_is_tried(server_tls: ssl.SSLContext, tmp_path: Path) -> None:
    trust = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    async with raw_server(ok, server_tls) as server:
        addresses = Addresses("127.0.0.2", "127.0.0.1")

        assert await post_over_tls(server.port, trust, addresses) == OK_RESPONSE


def test_uvloop_runs_the_client(server_tls: ssl.SSLContext, tmp_path: Path) -> None:
    """The broker runs on uvloop, with other classes of transports."""
    trust = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))

    async def main() -> None:
        async with raw_server(ok) as server:
            client = KeepAliveClient(allow_private_address=True)
            await client.open()
            for _ in range(2):
                assert await post(client, server.port) == OK_RESPONSE
            assert server.connections == 1
            await client.close()
        async with raw_server(ok, server_tls) as server:
            assert await post_over_tls(server.port, trust, Addresses("127.0.0.1")) == OK_RESPONSE
            with pytest.raises(WebhookFailed, match="certificate verify failed"):
                await post_over_tls(server.port, None, Addresses("127.0.0.1"))

    uvloop.run(main())


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "fe80::1", "0.0.0.0"],
)
async def test_private_address_receives_nothing(address: str) -> None:
    async with raw_server(ok) as server:
        with pytest.raises(WebhookFailed, match="is not a public address"):
            await post_over_tls(server.port, None, Addresses(address), is_private=False)

        assert server.connections == 0


async def test_each_connection_resolves_and_checks_the_name() -> None:
    """A name whose address changes between two requests does not avoid the check."""
    resolve = Addresses("127.0.0.1")
    client = KeepAliveClient(allow_private_address=False, resolve=resolve)
    await client.open()

    for _ in range(2):
        with pytest.raises(WebhookFailed, match="is not a public address"):
            await client.post(f"https://{HOST}/", REQUEST, max_bytes=MAX_BYTES, seconds=60)

    assert resolve.asked == 2


async def test_http_needs_permission() -> None:
    client = KeepAliveClient(allow_private_address=False)

    with pytest.raises(WebhookFailed, match="does not use https"):
        await client.post(f"http://{HOST}/", REQUEST, max_bytes=MAX_BYTES, seconds=60)


async def test_idle_connections_are_limited(
    client: KeepAliveClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.infrastructure.outbound.keep_alive.IDLE_MAX", 1)
    all_are_open = asyncio.Event()

    async def answer(request: RawRequest) -> None:
        if len(server.requests) == 3:
            all_are_open.set()
        await all_are_open.wait()
        await request.write(OK)

    async with raw_server(answer) as server:
        await asyncio.gather(*(post(client, server.port) for _ in range(3)))

        closed = [request.writer.is_closing for request in server.requests]
        await eventually(lambda: sum(is_closed() for is_closed in closed) == 2)
