"""Bodies of polling requests."""

from __future__ import annotations

import asyncio

from aiohttp import web

from broker.errors import InvalidRequest

BODY_TIMEOUT = 10.0
"""Seconds that the body of a POST gets to arrive."""


async def whole_body(request: web.Request) -> bytes:
    """The body; raises InvalidRequest if it does not arrive whole and in time."""
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            return await request.read()
    except TimeoutError:
        raise InvalidRequest("the body did not arrive in time") from None
    except ConnectionError:
        raise InvalidRequest("the connection was lost before the end of the body") from None
