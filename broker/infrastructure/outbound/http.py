"""HTTP requests to other servers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import aiohttp


class HTTPResponse(NamedTuple):
    """A complete response."""

    status: int
    media_type: str
    content: bytes


class ResponseTooLarge(Exception):
    """The body of a response has more than `max_bytes` bytes."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(f"over {max_bytes // 1024} KB")


class HTTPClient:
    """Sends requests, and reads responses of at most `max_bytes` bytes.

    It follows no redirects, which could send secrets to other servers. It accepts no compressed
    responses, which could exceed `max_bytes` once expanded. It stores no cookies and uses no
    proxies of the environment.

    Create it in a running event loop.

    timeout: limits of each request; none by default.
    connector: creates connections; aiohttp's default if None.
    """

    def __init__(
        self,
        *,
        max_bytes: int,
        timeout: aiohttp.ClientTimeout | None = None,
        connector: aiohttp.BaseConnector | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._max_bytes = max_bytes
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=timeout or aiohttp.ClientTimeout(total=None),
            headers={"Accept-Encoding": "identity", **(headers or {})},
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )

    async def request(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        json: object = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> HTTPResponse:
        """Return the response, whatever its status.

        Raises ResponseTooLarge, and aiohttp's errors.
        """
        async with self._session.request(
            method,
            url,
            params=params,
            json=json,
            data=data,
            headers=headers,
            allow_redirects=False,
        ) as response:
            content = await read_limited(response, self._max_bytes)
            return HTTPResponse(response.status, response.content_type, content)

    async def close(self) -> None:
        await self._session.close()


async def read_limited(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """Return the whole body. Raises ResponseTooLarge."""
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > max_bytes:
            raise ResponseTooLarge(max_bytes)
    return bytes(content)
