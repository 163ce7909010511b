"""Receives bodies of HTTP requests, of the API and of Engine.IO polling."""

from __future__ import annotations

import asyncio

from aiohttp import web

from broker.errors import InvalidRequest

BODY_TIMEOUT = 10.0
"""Seconds in which a body must arrive."""


async def read_body(request: web.Request) -> bytes:
    """Return the body, once.

    Raises InvalidRequest if it does not arrive in full and in time, and
    web.HTTPRequestEntityTooLarge.
    """
    content = request.content
    if content.is_eof() and content.total_bytes <= request.client_max_size:
        return content.read_nowait()  # a small body arrives with the headers
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            return await request.read()
    except TimeoutError:
        raise InvalidRequest("request body did not arrive in time") from None
    except ConnectionError:
        raise InvalidRequest("connection lost before the end of the request body") from None
