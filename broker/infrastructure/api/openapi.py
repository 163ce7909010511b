"""The OpenAPI 3.1 document of a port, built from the endpoints that the port serves.

Endpoints of roles that a process does not have are not in its document.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any, Literal

from aiohttp import hdrs, web
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from broker import __version__
from broker.errors import BrokerError, InvalidRequest, Unavailable
from broker.infrastructure.api.endpoint import (
    BODY_OR_QUERY,
    JSON,
    PUBLIC,
    QUERY,
    Endpoint,
    Route,
    Schema,
    bind_endpoints,
)
from broker.infrastructure.api.responses import json_response

OPENAPI_PATH = "/openapi.json"

DOCUMENTED_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})

RETRY_AFTER_STATUSES = frozenset({429, 503})
"""Statuses that are sent with `Retry-After`."""

COMMON_ERRORS: tuple[type[BrokerError], ...] = (InvalidRequest, Unavailable)
"""Errors of every endpoint."""

TEXT: Schema = {"type": "string"}

ERROR_SCHEMA: Schema = {
    "type": "object",
    "properties": {
        "error": TEXT,
        "error_description": TEXT,
        "retry_after": {"type": "integer", "minimum": 1},
    },
    "required": ["error", "error_description"],
}
"""The body of an error.  Some error words have further fields."""


class OpenAPI:
    """Serves the document of `endpoints`, which is built on the first request.

    url: the public URL; None at the admin port.
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
        summary="This OpenAPI document",
        response=dict[str, Any],
    ),
]


def openapi_route(title: str, served: Iterable[Route], url: str | None = None) -> Route:
    """Return a route that serves the document of `served` and of itself."""
    [route] = bind_endpoints(OpenAPI(title, [*endpoints_of(served), *ENDPOINTS], url), ENDPOINTS)
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
        paths.setdefault(path, {})[method.lower()] = _operation(endpoint, method, path, schemas)
    security = {name: scheme for one in endpoints for name, scheme in one.auth.schemes.items()}
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": __version__, "license": {"name": "MIT"}},
        **({"servers": [{"url": url}]} if url else {}),
        "paths": paths,
        "components": {
            "securitySchemes": security,
            "schemas": {"Failure": ERROR_SCHEMA, **schemas.definitions},
        },
    }


class _Generator(GenerateJsonSchema):
    """Leaves out the titles of fields, which only repeat their names."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


class Schemas:
    """The schemas of request and response models, which refer to `definitions`."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        requests = {one.request for one in endpoints if _is_model(one.request)}
        responses = {one.response for one in endpoints if _is_model(one.response)}
        inputs = [
            *(_input(model, "validation") for model in requests),
            *(_input(model, "serialization") for model in responses),
        ]
        references, rest = TypeAdapter.json_schemas(
            sorted(inputs, key=lambda one: repr(one[0])),
            ref_template="#/components/schemas/{model}",
            schema_generator=_Generator,
        )
        self._references = {model: schema for (model, _), schema in references.items()}
        self.definitions: Mapping[str, Schema] = rest.get("$defs", {})

    def reference(self, model: Any) -> Schema:
        """Return the schema to use in the document, usually a `$ref`."""
        return self._references[model]

    def resolve(self, model: Any) -> Schema:
        """Return the schema of the model itself."""
        schema = self.reference(model)
        name = schema.get("$ref", "").rpartition("/")[2]
        return self.definitions[name] if name else schema


Mode = Literal["validation", "serialization"]


def _input(model: Any, mode: Mode) -> tuple[Any, Mode, TypeAdapter[Any]]:
    return model, mode, TypeAdapter(model)


def _is_model(kind: object) -> bool:
    return kind is not None and not isinstance(kind, str)


def _operation(endpoint: Endpoint, method: str, path: str, schemas: Schemas) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": "_".join(re.findall(r"\w+", f"{method} {path}")),
        "summary": endpoint.summary,
        "responses": {**_success(endpoint, schemas), **_errors(endpoint)},
    }
    parameters = [*_path_parameters(path), *_query_parameters(endpoint, schemas)]
    if parameters:
        operation["parameters"] = parameters
    if endpoint.request is not None and endpoint.request_in != QUERY:
        required = bool(schemas.resolve(endpoint.request).get("required"))
        media_type = JSON if endpoint.request_in == BODY_OR_QUERY else endpoint.request_in
        content = {media_type: {"schema": schemas.reference(endpoint.request)}}
        operation["requestBody"] = {"required": required, "content": content}
    if endpoint.multipart is not None:
        content = {"multipart/form-data": {"schema": endpoint.multipart}}
        operation["requestBody"] = {"required": True, "content": content}
    if endpoint.auth.alternatives:
        operation["security"] = [
            {name: [] for name in names} for names in endpoint.auth.alternatives
        ]
    return operation


def _path_parameters(path: str) -> Iterator[Schema]:
    for name in re.findall(r"{(\w+)}", path):
        yield {"name": name, "in": "path", "required": True, "schema": TEXT}


def _query_parameters(endpoint: Endpoint, schemas: Schemas) -> Iterator[Schema]:
    if endpoint.request is None or endpoint.request_in != QUERY:
        return
    model = schemas.resolve(endpoint.request)
    for name, schema in model["properties"].items():
        required = name in model.get("required", ())
        yield {"name": name, "in": "query", "required": required, "schema": schema}


def _success(endpoint: Endpoint, schemas: Schemas) -> dict[str, Schema]:
    response: dict[str, Any] = {"description": "success"}
    if isinstance(endpoint.response, str):
        response["content"] = {endpoint.response: {"schema": TEXT}}
    elif endpoint.response is not None:
        response["content"] = _json(schemas.reference(endpoint.response))
    return {str(endpoint.status): response}


def _errors(endpoint: Endpoint) -> dict[str, dict[str, Any]]:
    """Return the error responses by status, with the words of each."""
    words: dict[int, dict[str, None]] = {}
    style = endpoint.error_style
    for kind in (*COMMON_ERRORS, *endpoint.auth.errors, *endpoint.errors):
        status = style.status(kind.status) if style else kind.status
        words.setdefault(status, {})[kind.error] = None
    if "{" in endpoint.path:  # a parameter that does not match is an unknown path
        words.setdefault(404, {})[InvalidRequest.error] = None
    errors = {str(status): _error(status, [*found]) for status, found in sorted(words.items())}
    for page in map(str, endpoint.page_statuses):
        error = errors.setdefault(page, {"description": "an error page"})
        error["content"] = {**error.get("content", {}), "text/html": {"schema": TEXT}}
    if endpoint.not_found_type:
        content = {endpoint.not_found_type: {"schema": TEXT}}
        errors["404"] = {"description": "not found", "content": content}
    return errors


def _error(status: int, words: list[str]) -> dict[str, Any]:
    error: dict[str, Any] = {
        "description": ", ".join(f"`{word}`" for word in words),
        "content": _json(
            {
                "allOf": [
                    {"$ref": "#/components/schemas/Failure"},
                    {"properties": {"error": {"enum": words}}},
                ]
            }
        ),
    }
    if status in RETRY_AFTER_STATUSES:
        error["headers"] = {"Retry-After": {"schema": {"type": "integer"}}}
    return error


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}
