"""What requests look like, and how failures are answered: the same over HTTP and Socket.IO."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from urllib.parse import parse_qsl

from aiohttp import web

from broker.errors import InvalidRequest
from broker.infrastructure.codec import decode

BODY_MAX_BYTES = 64 * 1024

BODY_TIMEOUT = 10.0
"""Seconds that a body gets to arrive."""


async def read_body(request: web.Request) -> bytes:
    """The body; raises InvalidRequest if it does not arrive whole and in time."""
    if request.content.is_eof():  # it came with its headers, as small ones do
        return await request.read()
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            return await request.read()
    except TimeoutError:
        raise InvalidRequest("the body did not come in time") from None
    except ConnectionError:
        raise InvalidRequest("the connection was lost before the end of the body") from None


async def read_json(request: web.Request) -> object:
    """The body as JSON; raises InvalidRequest for anything else."""
    try:
        body: object = decode(await read_body(request))
    except (ValueError, RecursionError):
        raise InvalidRequest("the body is not JSON in UTF-8") from None
    return body


async def read_object(request: web.Request) -> Mapping[str, object]:
    """The body, an object; none at all counts as an empty one.  Raises InvalidRequest."""
    body = await read_json(request) if request.body_exists else {}
    if not isinstance(body, Mapping):
        raise InvalidRequest("want an object with named fields")
    return body


FORM_TYPE = "application/x-www-form-urlencoded"


async def read_form(request: web.Request) -> dict[str, str]:
    """The form's fields; RFC 6749, 3.1: none may come twice."""
    if request.content_type != FORM_TYPE:
        raise InvalidRequest(f"want a body of {FORM_TYPE}")
    try:
        pairs = parse_qsl((await read_body(request)).decode(), True, max_num_fields=32)
    except ValueError:
        raise InvalidRequest("the body is no form in UTF-8") from None
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise InvalidRequest("a field stands twice")
    return fields
