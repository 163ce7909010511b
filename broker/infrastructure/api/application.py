"""Builds the aiohttp application of a port from its routes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from aiohttp import web

from broker.infrastructure.api.bodies import BODY_MAX_BYTES
from broker.infrastructure.api.endpoint import Route
from broker.infrastructure.api.errors import error_middleware
from broker.infrastructure.api.openapi import openapi_route
from broker.infrastructure.api.responses import ResponseHook, add_headers


def build_application(
    routes: Sequence[Route],
    *,
    title: str,
    public_url: str | None,
    check: Callable[[web.Request], None] = lambda request: None,
    prepare: Sequence[ResponseHook] = (),
) -> web.Application:
    """Return an application with `routes` and their OpenAPI document.

    title: of the document.
    public_url: if it has a path, the routes are served below it too, for a proxy that does
    not strip it; None at the admin port.
    check: raises a BrokerError for requests that are refused now.
    """
    served = [*routes, openapi_route(title, routes, public_url)]
    prefix = urlsplit(public_url or "").path
    application = web.Application(
        middlewares=[error_middleware(check)], client_max_size=BODY_MAX_BYTES
    )
    application.on_response_prepare.extend([add_headers, *prepare])
    application.add_routes(served)
    if prefix:
        application.add_routes(_below(prefix, served))
    return application


def _below(prefix: str, routes: Iterable[Route]) -> list[web.AbstractRouteDef]:
    async def to_index(request: web.Request) -> web.Response:
        raise web.HTTPPermanentRedirect(f"{prefix}/")  # the page has relative links

    return [
        web.get(prefix, to_index),
        *(replace(route, alias=prefix + route.path) for route in routes),
    ]
