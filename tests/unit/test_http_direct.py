"""Usual requests take a short path through aiohttp: the answers are those of the long one."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.errors import InvalidRequest, RateLimited
from broker.infrastructure.api.errors import error_middleware
from broker.infrastructure.api.responses import add_headers, json_response, no_store_response
from broker.infrastructure.runtime import http_runner
from broker.infrastructure.runtime.http_runner import Runner

TIMEOUT = 30.0

LAST = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
"""The request after which the server closes the connection."""


def request(
    path: str = "/echo", body: bytes = b"{}", head: str = "", method: str = "POST"
) -> bytes:
    lines = f"{method} {path} HTTP/1.1\r\nHost: a\r\n{head}Content-Length: {len(body)}\r\n\r\n"
    return lines.encode() + body


CASES = {
    "usual": request(),
    "two in one piece": request() + request(body=b"[1]"),
    "error": request("/refuse"),
    "error with Retry-After": request("/limited"),
    "failure": request("/fail"),
    "no body": request("/empty"),
    "no content": request("/nothing"),
    "response that closes": request("/closing"),
    "cookie": request("/cookie"),
    "stream": request("/stream"),
    "HEAD": request("/page", b"", method="HEAD"),
    "GET": request("/page", b"", method="GET"),
    "query": request("/echo?a=b"),
    "percent-encoded path": request("/%65cho"),
    "parameter in the path": request("/item/17"),
    "unknown path": request("/unknown"),
    "wrong method": request(method="PUT"),
    "OPTIONS": request("/echo", b"", method="OPTIONS"),
    "absolute form": request("http://a/echo"),
    "Expect": request(head="Expect: 100-continue\r\n"),
    "unknown Expect": request(head="Expect: more\r\n"),
    "close": request(head="Connection: close\r\n"),
    "HTTP/1.0": b"POST /echo HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}",
    "HTTP/1.0 keep-alive": (
        b"POST /echo HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}"
    ),
    "chunked": (
        b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    ),
    "malformed": b"POST /echo HTTP/1.1\r\nHost a\r\n\r\n",
    "two lengths": request(head="Content-Length: 3\r\n"),
    "too long": request(body=b"x" * 70_000),
}

CLOSING = {
    "close",
    "HTTP/1.0",
    "malformed",
    "two lengths",
    "too long",
    "response that closes",
    "unknown Expect",
}
"""Cases after which the server closes the connection. What it has not read may reset it."""

KEPT_OPEN = CASES.keys() - CLOSING


async def echo(request: web.Request) -> web.Response:
    return no_store_response({"method": request.method, "body": (await request.read()).decode()})


async def refuse(request: web.Request) -> web.Response:
    raise InvalidRequest(f"not {request.app.__class__.__name__}")


async def limit(request: web.Request) -> web.Response:
    raise RateLimited(7)


async def fail(request: web.Request) -> web.Response:
    raise ZeroDivisionError


async def cookie(request: web.Request) -> web.Response:
    response = json_response({})
    response.set_cookie("a", "b")
    return response


async def closing(request: web.Request) -> web.Response:
    response = json_response({})
    response.force_close()
    return response


async def stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"part")
    return response


def application() -> web.Application:
    async def page(request: web.Request) -> web.Response:
        return json_response({"page": 1})

    async def empty(request: web.Request) -> web.Response:
        return web.Response()

    async def nothing(request: web.Request) -> web.Response:
        return web.Response(status=204)

    async def item(request: web.Request) -> web.Response:
        return no_store_response(dict(request.match_info))

    app = web.Application(middlewares=[error_middleware()], client_max_size=64 * 1024)
    app.on_response_prepare.append(add_headers)
    app.add_routes([web.post("/echo", echo), web.post("/refuse", refuse)])
    app.add_routes([web.post("/limited", limit), web.post("/fail", fail)])
    app.add_routes([web.post("/cookie", cookie), web.post("/closing", closing)])
    app.add_routes([web.post("/stream", stream), web.post("/empty", empty)])
    app.add_routes([web.post("/nothing", nothing), web.get("/page", page), web.get("/last", page)])
    app.add_routes([web.post("/item/{id}", item)])
    return app


async def answers(parts: list[bytes]) -> list[tuple[str, dict[str, str], bytes]]:
    """Send the parts one after the other, and return status, headers and body of each response."""
    runner = Runner(application(), access_log=None, auto_decompress=False)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with asyncio.timeout(TIMEOUT):
            reader, writer = await asyncio.open_connection(*runner.addresses[0])
            for part in parts:
                writer.write(part)
                await asyncio.sleep(0)
            received = await reader.read()
            writer.close()
    finally:
        await runner.cleanup()
    return split(received)


def split(received: bytes) -> list[tuple[str, dict[str, str], bytes]]:
    found = []
    while received:
        head, _, received = received.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        has_date = headers.pop("Date", None) is not None
        headers["has date"] = str(has_date)
        length = int(headers.get("Content-Length", 0))
        if "Transfer-Encoding" in headers:
            length = received.index(b"0\r\n\r\n") + 5
        found.append((status, headers, received[:length]))
        received = received[length:]
    return found


def use_long_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_runner, "plain_routes", lambda app: {})
    monkeypatch.setattr(http_runner, "is_usual", lambda *arguments: False)


@pytest.mark.parametrize("name", CASES)
async def test_answers_equal_those_of_the_long_path(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = await answers([CASES[name], LAST])
    use_long_path(monkeypatch)

    assert short == await answers([CASES[name], LAST])
    assert short


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(sorted(KEPT_OPEN)), min_size=1, max_size=3), st.randoms())
def test_answers_do_not_depend_on_the_parts(names: list[str], random: object) -> None:
    sent = b"".join(CASES[name] for name in names) + LAST
    cuts = sorted({random.randrange(len(sent)) for _ in range(4)})  # type: ignore[attr-defined]
    parts = [sent[a:b] for a, b in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
    with pytest.MonkeyPatch.context() as patch:
        short = asyncio.run(answers(parts))
        use_long_path(patch)
        long = asyncio.run(answers(parts))

    assert short == long
