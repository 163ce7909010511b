"""Files, errors and security headers of all routes."""

import json
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

Route = tuple[str, str, Handler]
"""Method, path and handler."""


def file_routes(prefix: str, folder: Path, names: Iterable[str]) -> list[Route]:
    """Return a route for each of these files."""
    return [("GET", f"{prefix}/{name}", _file_handler(folder / name)) for name in names]


def _file_handler(path: Path) -> Handler:
    async def serve(request: web.Request) -> web.FileResponse:
        return web.FileResponse(path, headers={"Cache-Control": "no-cache"})

    return serve


def fail(kind: type[web.HTTPException], error: str, description: str) -> NoReturn:
    body = json.dumps({"error": error, "error_description": description})
    raise kind(text=body, content_type="application/json")


async def check_expectation(request: web.Request) -> None:
    """Answer `Expect: 100-continue`. Refuse other expectations."""
    if request.headers["Expect"].lower() != "100-continue":
        fail(web.HTTPExpectationFailed, "invalid_request", "Expect is not supported")
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # the response has not begun


def security_headers(
    broker_url: str,
) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """Headers that restrict pages to requests to this site and to the broker."""
    url = urlsplit(broker_url)
    broker = f"{url.scheme}://{url.netloc}"
    socket = f"{'wss' if url.scheme == 'https' else 'ws'}://{url.netloc}"
    policy = "; ".join(
        [
            "default-src 'none'",
            f"script-src 'self' {broker}",
            f"connect-src 'self' {broker} {socket}",
            f"img-src 'self' data: {broker} https:",  # https: for logos and for pictures of people
            "style-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        ]
    )

    async def add(_request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Content-Security-Policy"] = policy
        response.headers["X-Content-Type-Options"] = "nosniff"
        # With `no-referrer` browsers would send `Origin: null` from the sign-out form.
        response.headers["Referrer-Policy"] = "same-origin"

    return add
