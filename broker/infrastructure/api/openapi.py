"""The broker's HTTP described in OpenAPI 3.1, made of the table of calls and the wire's models.

Each port describes what it serves, as it serves it: the calls of roles that a process
leaves to others are not in its description.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from aiohttp import hdrs, web

from broker import __version__
from broker.calls import CALLS, TEXT, Call, Schema
from broker.errors import BrokerError
from broker.infrastructure.api.responses import json_response
from broker.infrastructure.api.schema import RequestModel
from broker.login.device_api import ENDPOINTS, oauth_status

OPENAPI_PATH = "/openapi.json"

OAUTH_CALLS = {f"POST {path}" for path in ENDPOINTS.values()}
"""Calls whose failures have OAuth's statuses."""

RETRY_AFTER_STATUSES = (429, 503)
"""Statuses that come with `Retry-After`."""

COMMON_ERRORS = "invalid_request temporarily_unavailable"
"""Words that any call may answer with."""

ERROR_SCHEMA: Schema = {
    "type": "object",
    "properties": {
        "error": TEXT,
        "error_description": TEXT,
        "retry_after": {"type": "integer", "minimum": 1},
    },
    "required": ["error", "error_description"],
}
"""An answer to what went wrong; some words bring fields of their own."""

SECURITY_SCHEMES: Mapping[str, Schema] = {
    "session": {
        "type": "http",
        "scheme": "bearer",
        "description": "`<id>.<skey>` of the phone's session",
    },
    "sessionId": {"type": "apiKey", "in": "header", "name": "X-WX-Id"},
    "sessionSkey": {"type": "apiKey", "in": "header", "name": "X-WX-Skey"},
    "appSecret": {
        "type": "http",
        "scheme": "basic",
        "description": "the app's id and its own secret",
    },
    "adminToken": {"type": "http", "scheme": "bearer", "description": "SCAN_LOGIN_ADMIN_TOKEN"},
}

SECURITY_BY_AUTH: Mapping[str, list[dict[str, list[str]]]] = {
    "anybody": [],
    "phone": [{"session": []}, {"sessionId": [], "sessionSkey": []}],
    "server": [{"appSecret": []}, {"adminToken": []}],
    "operator": [{"adminToken": []}],
}
"""How each kind of caller proves itself: in one of these ways."""


def openapi_route(title: str, url: str | None = None) -> web.RouteDef:
    """Describes the application that it is added to.  url: where the world reaches it."""

    async def show(request: web.Request) -> web.Response:
        document = build_document(request.app, title, url)
        return json_response(document, {hdrs.CACHE_CONTROL: "no-store"})

    return web.get(OPENAPI_PATH, show)


def build_document(
    application: web.Application, title: str, url: str | None = None
) -> dict[str, Any]:
    paths: dict[str, dict[str, Any]] = {}
    for name in served_operations(application):
        method, path = name.split(" ")
        if name in CALLS:
            paths.setdefault(path, {})[method.lower()] = _operation(name, CALLS[name])
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": __version__, "license": {"name": "MIT"}},
        **({"servers": [{"url": url}]} if url else {}),
        "paths": paths,
        "components": {"securitySchemes": SECURITY_SCHEMES, "schemas": {"Failure": ERROR_SCHEMA}},
    }


def served_operations(application: web.Application) -> Iterator[str]:
    """What the application answers, such as `GET /version`."""
    for one in application.router.routes():
        if one.method in ("GET", "POST", "PUT", "PATCH", "DELETE") and one.resource:
            yield f"{one.method} {one.resource.canonical}"


def _operation(name: str, call: Call) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": "_".join(re.findall(r"\w+", name)),
        "summary": call.summary,
        "responses": {**_success(call), **_failures(name, call)},
    }
    parameters = [
        *_parameters("path", re.findall(r"{(\w+)}", name)),
        *_parameters("query", call.query),
    ]
    if parameters:
        operation["parameters"] = parameters
    if call.asks is not None:
        schema = _asked(call.asks)
        content = {call.ask_by: {"schema": schema}}
        operation["requestBody"] = {"required": bool(schema.get("required")), "content": content}
    if SECURITY_BY_AUTH[call.by]:
        operation["security"] = SECURITY_BY_AUTH[call.by]
    return operation


def _parameters(place: str, names: Iterable[str]) -> Iterator[Schema]:
    for name in names:
        yield {"name": name, "in": place, "required": place == "path", "schema": TEXT}


def _asked(asks: type[RequestModel] | Schema) -> Schema:
    return asks if isinstance(asks, Mapping) else asks.model_json_schema()


def _success(call: Call) -> dict[str, Schema]:
    if call.gives is None:
        return {str(call.status): {"description": "done"}}
    page = isinstance(call.gives, str)
    content = _page(str(call.gives)) if page else _json(call.gives)
    return {str(call.status): {"description": "done", "content": content}}


def _failures(name: str, call: Call) -> dict[str, Schema]:
    """By status: the words with which the call may fail."""
    found: dict[int, list[str]] = {}
    for word in f"{COMMON_ERRORS} {call.words}".split():
        status = (
            oauth_status(STATUS_BY_ERROR[word]) if name in OAUTH_CALLS else STATUS_BY_ERROR[word]
        )
        found.setdefault(status, []).append(word)
    if "{" in name:  # what cannot be such a part of a path is a path that is not there
        found.setdefault(404, []).append("invalid_request")
    failures = {str(status): _failure(status, words) for status, words in sorted(found.items())}
    if call.missing:
        failures["404"] = {"description": "there is none", "content": _page(call.missing)}
    return failures


def _failure(status: int, words: list[str]) -> Schema:
    one_of = {"properties": {"error": {"enum": words}}}
    failure: dict[str, Any] = {
        "description": ", ".join(f"`{word}`" for word in words),
        "content": _json({"allOf": [{"$ref": "#/components/schemas/Failure"}, one_of]}),
    }
    if status in RETRY_AFTER_STATUSES:
        failure["headers"] = {"Retry-After": {"schema": {"type": "integer"}}}
    return failure


def _json(schema: Any) -> Schema:
    return {"application/json": {"schema": schema}}


def _page(media_type: str) -> Schema:
    return {media_type: {"schema": TEXT}}


def _statuses(kind: type[BrokerError] = BrokerError) -> Iterator[tuple[str, int]]:
    for below in kind.__subclasses__():
        if "error" in vars(below):
            yield below.error, below.status
        yield from _statuses(below)


STATUS_BY_ERROR: Mapping[str, int] = dict(_statuses())
"""The status that each word is answered with."""
