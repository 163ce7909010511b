"""Bodies of polling requests."""

from __future__ import annotations

import asyncio

from aiohttp import web

from broker.errors import InvalidRequest

BODY_TIMEOUT = 10.0
"""Seconds to receive the body of a POST."""


async def read_body(request: web.Request) -> bytes:
    """Return the complete body. Raises InvalidRequest if it is incomplete or late."""
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            return await request.read()
    except TimeoutError:
        raise InvalidRequest("the request body was not received in time") from None
    except ConnectionError:
        raise InvalidRequest("the connection was lost before the end of the body") from None
