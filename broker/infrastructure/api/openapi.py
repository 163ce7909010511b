"""The OpenAPI 3.1 document of a port, built from the endpoints that the port serves.

Endpoints of roles that a process does not have are not in its document.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any

from aiohttp import hdrs, web

from broker import __version__
from broker.infrastructure.api.endpoint import (
    ADMIN,
    PUBLIC,
    Endpoint,
    Route,
    Schema,
    bind_endpoints,
)
from broker.infrastructure.api.openapi_operations import (
    ERROR_SCHEMA,
    Schemas,
    describe_operation,
    package_of,
    tag_of,
)
from broker.infrastructure.api.responses import json_response

OPENAPI_PATH, PUBLIC_OPENAPI_PATH = "/openapi.json", "/openapi-public.json"

ABOUT = """\
An error is a JSON object with `error`, a word for programs, and `error_description`, a text for \
developers. Responses with the status 429 or 503 have `Retry-After`.
"""
"""The description of each document, before the table of credentials."""

DOCUMENTED_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})

ADMIN_SERVER = {"url": "/", "description": "the admin port"}


class OpenAPI:
    """Serves the document of `endpoints`, which is built on the first request.

    url: the public URL; None for the admin port.
    """

    def __init__(self, title: str, endpoints: Sequence[Endpoint], url: str | None) -> None:
        self._build = cache(partial(build_document, endpoints, title, url))

    async def document(self, http: web.Request) -> web.Response:
        return json_response(self._build(), {hdrs.CACHE_CONTROL: "no-store"})


ENDPOINTS = [
    Endpoint(
        "GET",
        OPENAPI_PATH,
        OpenAPI.document,
        role=PUBLIC,
        operation_id="getOpenAPIDocument",
        summary="This OpenAPI document",
        response=dict[str, Any],
    ),
    Endpoint(
        "GET",
        PUBLIC_OPENAPI_PATH,
        OpenAPI.document,
        role=ADMIN,
        operation_id="getPublicOpenAPIDocument",
        summary="The OpenAPI document of the public port",
        response=dict[str, Any],
    ),
]


def openapi_route(title: str, served: Iterable[Route], url: str | None = None) -> Route:
    """Return a route that serves the document of `served` and of itself."""
    own = ENDPOINTS[:1]
    [route] = bind_endpoints(OpenAPI(title, [*endpoints_of(served), *own], url), own)
    return route


def public_openapi_route(title: str, public: Iterable[Route], url: str) -> Route:
    """Return a route for the admin port that serves the document of the public port."""
    endpoints = [*endpoints_of(public), ENDPOINTS[0]]
    [route] = bind_endpoints(OpenAPI(title, endpoints, url), ENDPOINTS[1:])
    return route


def endpoints_of(routes: Iterable[Route]) -> Iterator[Endpoint]:
    """Return the documented endpoints; an alias is not documented."""
    for route in routes:
        if route.alias is None and route.endpoint.method in DOCUMENTED_METHODS:
            yield route.endpoint


def name_of(method: str, path: str) -> str:
    """Return `GET /apps/{id}` for the path `/apps/{id:[a-z]+}`."""
    plain_path = re.sub(r"{(\w+):[^}]*}", r"{\1}", path)
    return f"{method} {plain_path}"


def build_document(
    endpoints: Sequence[Endpoint], title: str, url: str | None = None
) -> dict[str, Any]:
    """Return the OpenAPI document of the endpoints, in their order."""
    schemas = Schemas(endpoints)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        method, path = name_of(endpoint.method, endpoint.path).split(" ")
        paths.setdefault(path, {})[method.lower()] = describe_operation(endpoint, path, schemas)
    security = {name: scheme for one in endpoints for name, scheme in one.auth.schemes.items()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "version": __version__,
            "description": ABOUT + _credentials_table(security),
            "license": {"name": "MIT"},
        },
        "servers": [{"url": url, "description": "the public port"} if url else ADMIN_SERVER],
        "tags": [*{tag_of(one): _tag(one) for one in endpoints}.values()],
        "paths": paths,
        "components": {
            "securitySchemes": security,
            "schemas": {"Failure": ERROR_SCHEMA, **schemas.definitions},
        },
    }


def _tag(endpoint: Endpoint) -> dict[str, str]:
    """Return the tag, with the first line of the package's docstring."""
    text = sys.modules[package_of(endpoint)].__doc__ or ""
    return {"name": tag_of(endpoint), "description": text.partition("\n")[0]}


def _credentials_table(schemes: Mapping[str, Schema]) -> str:
    if not schemes:
        return ""
    rows = [
        f"| `{name}` | `{_header_of(scheme)}` | {scheme['description']} |"
        for name, scheme in schemes.items()
    ]
    return "\n".join(["", "| credentials | header | content |", "|---|---|---|", *rows])


def _header_of(scheme: Schema) -> str:
    """Return the header that has the credentials, such as `Authorization: Bearer`."""
    return str(scheme.get("name") or f"Authorization: {scheme['scheme'].title()}")
