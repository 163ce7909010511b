"""Shortens the path of usual requests through aiohttp.

For each request, aiohttp asks its router, wraps the handler in the middlewares, and prepares the
response in several steps. For a path without parameters the first two always have the same
result, and a JSON response needs no preparation. See docs/decisions/0038-answer-usual-requests.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial
from typing import NamedTuple, TypeGuard

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http_writer import _serialize_headers

from broker.infrastructure.api.responses import Handler, JSONResponse


class PlainRoute(NamedTuple):
    """A route whose path has no parameters. handler: with the middlewares around it."""

    match_info: web.UrlMappingMatchInfo
    handler: Handler


def plain_routes(app: web.Application) -> Mapping[tuple[str, str], PlainRoute]:
    """Return the plain routes by method and path."""
    return {
        (route.method, resource.canonical): PlainRoute(
            _match_info(app, route), _with_middlewares(app, route.handler)
        )
        for resource in app.router.resources()
        if isinstance(resource, web.PlainResource)
        for route in resource
        if isinstance(route, web.ResourceRoute)
    }


def is_usual(response: web.StreamResponse, request: web.BaseRequest) -> TypeGuard[JSONResponse]:
    """Whether a JSON response is sent in full, and the connection stays open after it."""
    message = request._message
    return (
        type(response) is JSONResponse
        and message.method != hdrs.METH_HEAD
        and message.version == HttpVersion11
        and not message.should_close
        and response.keep_alive is None
        and not response._cookies
    )


def serialize(response: JSONResponse) -> bytes:
    """Return the response as bytes, with the headers that aiohttp adds."""
    body, headers = response.body, response.headers
    assert isinstance(body, bytes)
    headers[hdrs.CONTENT_LENGTH] = str(len(body))
    headers[hdrs.DATE] = rfc822_formatted_time()
    return _serialize_headers(_status_line(response.status, response.reason), headers) + body


@lru_cache(maxsize=64)
def _status_line(status: int, reason: str | None) -> str:
    return f"HTTP/1.1 {status} {reason}"


def _match_info(app: web.Application, route: web.ResourceRoute) -> web.UrlMappingMatchInfo:
    found = web.UrlMappingMatchInfo({}, route)
    found.add_app(app)
    found.freeze()
    return found


def _with_middlewares(app: web.Application, handler: Handler) -> Handler:
    for middleware in reversed(app.middlewares):
        handler = partial(middleware, handler=handler)
    return handler
