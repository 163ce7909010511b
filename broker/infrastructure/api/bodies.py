"""Bodies of HTTP requests: JSON and forms."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl

from aiohttp import web

from broker.errors import InvalidRequest
from broker.infrastructure.codec import decode
from broker.infrastructure.transport.bodies import read_body

BODY_MAX_BYTES = 64 * 1024


async def read_json(request: web.Request) -> object:
    """Decode the body.  Raises InvalidRequest if it is not JSON."""
    try:
        body: object = decode(await read_body(request))
    except (ValueError, RecursionError):
        raise InvalidRequest("request body is not UTF-8 JSON") from None
    return body


async def read_object(request: web.Request) -> Mapping[str, object]:
    """Decode a JSON object; no body is an empty object.  Raises InvalidRequest."""
    body = await read_json(request) if request.body_exists else {}
    if not isinstance(body, Mapping):
        raise InvalidRequest("request body is not a JSON object")
    return body


FORM_TYPE = "application/x-www-form-urlencoded"


async def read_form(request: web.Request) -> dict[str, str]:
    """Return the form's fields.  Raises InvalidRequest for a repeated one (RFC 6749, 3.1)."""
    if request.content_type != FORM_TYPE:
        raise InvalidRequest(f"request body is not {FORM_TYPE}")
    try:
        pairs = parse_qsl((await read_body(request)).decode(), True, max_num_fields=32)
    except ValueError:
        raise InvalidRequest("request body is not UTF-8 form data") from None
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise InvalidRequest("a form field is repeated")
    return fields
