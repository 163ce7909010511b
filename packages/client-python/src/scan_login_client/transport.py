"""HTTP requests to the broker: blocking with urllib, or with aiohttp."""

from __future__ import annotations

import asyncio
import http.client
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from scan_login_client.errors import BrokerUnavailable

ANSWER_MAX_BYTES = 1024 * 1024


class Answer(NamedTuple):
    """The response of the broker, whatever its status.  headers: names as the broker sends them."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Credentials must not follow a redirect to another host."""

    def redirect_request(self, *_: object, **__: object) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirects)


def check_url(url: str) -> str:
    """Return the URL without a slash at its end. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is not the URL of a broker; expected https://…")
    return url.rstrip("/")


def send(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    timeout: float,
) -> Answer:
    """Return the answer to a request. Raises BrokerUnavailable if there is none."""
    request = urllib.request.Request(url, body, dict(headers or {}), method=method)  # noqa: S310
    try:
        with _open(request, timeout) as response:
            return Answer(response.status, dict(response.headers), response.read(ANSWER_MAX_BYTES))
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise BrokerUnavailable(f"the broker does not answer: {error}") from error


def _open(request: urllib.request.Request, timeout: float) -> http.client.HTTPResponse:
    try:
        response: http.client.HTTPResponse = _opener.open(request, timeout=timeout)
        return response
    except urllib.error.HTTPError as refused:
        return refused  # type: ignore[return-value]  # it has the same attributes


def require_aiohttp() -> None:
    """Raise ImportError if aiohttp, which `fetch` uses, is not installed."""
    try:
        import aiohttp  # noqa: F401
    except ModuleNotFoundError as error:
        install = 'pip install "scan-login-client[async]"'
        raise ImportError(f"AsyncVerifier needs aiohttp: {install}") from error


async def fetch(url: str, *, timeout: float) -> bytes:
    """Return the body of a GET request. Raises BrokerUnavailable if there is none."""
    import aiohttp

    limit = aiohttp.ClientTimeout(total=timeout)
    try:
        async with (
            aiohttp.ClientSession(timeout=limit) as session,
            session.get(url, allow_redirects=False) as response,
        ):
            return expect_ok(response.status, await response.read())
    except (aiohttp.ClientError, OSError, asyncio.TimeoutError, ValueError) as error:
        raise BrokerUnavailable(f"the broker does not answer: {error}") from error


def expect_ok(status: int, body: bytes) -> bytes:
    """Return the body. Raises BrokerUnavailable if the status is not 200."""
    if status != 200:
        raise BrokerUnavailable(f"the broker answered with status {status}")
    return body
