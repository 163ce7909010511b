"""HTTP endpoints, declared next to their handlers.

A feature's `*api.py` declares its endpoints after the API class. Routes, validation, the OpenAPI
document and the contract tests read this one declaration:

    class NewNote(RequestModel):
        text: str

    class NoteResponse(ResponseModel):
        id: str
        subject: NotRequired[str]              # left out if unknown

    class NotesAPI:
        async def add(self, session: Session, body: NewNote) -> NoteResponse:
            return {"id": "17"}

    ENDPOINTS = [
        Endpoint(
            "POST", "/notes", NotesAPI.add,
            role="phone", auth=PHONE, operation_id="addNote", summary="Add a note",
            request=NewNote, response=NoteResponse, errors=(NotesFull,),
        ),
    ]

`bind_endpoints(NotesAPI(...), ENDPOINTS, {PHONE: phone_authenticator})` returns the routes.

A handler is a method, or a function whose first argument is the API object. Its further arguments
are, in this order:

1. what the authenticator passes: the `web.Request` for `NO_AUTH`, a `Session` for `PHONE`, an
   `App` for `SERVER`, nothing for `OPERATOR`,
2. the parsed request, if the endpoint has a `request` model,
3. the parameters of the path, as keyword arguments.

A handler returns one of these:

- a dict of the `response` model's fields, sent as JSON with `no-store`,
- None, sent as 204,
- a `web.Response`, such as a page or a file.

A handler may raise each `BrokerError` class in `errors`, and `InvalidRequest`, `Unavailable` and
the errors of the authentication, which `errors` does not repeat.

A request is a `RequestModel`, which checks the fields.  If the feature's own rules check them, it
is a `RequestFields`, which describes them: the handler gets the form or the JSON object as it is,
or {} for an empty body.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from types import MethodType
from typing import Any

from aiohttp import web

from broker.errors import BrokerError, InvalidRequest
from broker.infrastructure.api.bodies import (
    BODY_MAX_BYTES,
    FORM_TYPE,
    read_form,
    read_json,
    read_object,
)
from broker.infrastructure.api.errors import to_broker_error
from broker.infrastructure.api.responses import Handler, error_response, no_store_response
from broker.infrastructure.api.schema import RequestModel, parse
from broker.infrastructure.observability.metrics import Timer

PUBLIC = "public"
"""The role of an endpoint that every process serves."""

ADMIN = "admin"
"""The role of an endpoint at the admin port."""

HTTP_SECONDS = Timer(
    "scanlogin_http_seconds",
    "Seconds of HTTP requests, without those that end before their endpoint",
    "route",
    (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0),
)

JSON, FORM, QUERY = "application/json", FORM_TYPE, "query"
"""The location of a request's fields: a body of this media type, or the query string."""

BODY_OR_QUERY = "body or query"
"""A JSON object in the body, which may be missing, over the fields of the query string."""

Schema = Mapping[str, Any]
"""A JSON schema."""

BoundHandler = Callable[..., Awaitable[Any]]
"""A handler; the module docstring describes its arguments and its result."""


@dataclass(frozen=True, slots=True, eq=False)
class Auth:
    """A way in which clients authenticate.

    schemes: OpenAPI security schemes by name.
    alternatives: names of schemes; a client sends all of one alternative.
    errors: classes that the authentication raises.
    """

    schemes: Mapping[str, Schema]
    alternatives: tuple[tuple[str, ...], ...]
    errors: tuple[type[BrokerError], ...]


NO_AUTH = Auth({}, (), ())
"""No authentication.  The handler gets the `web.Request`."""


@dataclass(frozen=True, slots=True)
class ErrorStyle:
    """The statuses of an endpoint's errors, if a standard requires others than the classes have.

    status: maps the status of an error class to the status that is sent.
    auth_scheme: the `WWW-Authenticate` of a 401.
    """

    status: Callable[[int], int]
    auth_scheme: str


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One operation of the HTTP API.

    path: may have parameters, such as `/apps/{id}` or `/apps/{id:[a-z]+}`.
    handler: a method of the API class, unbound.
    role: a value of the setting `roles`, `PUBLIC` or `ADMIN`.
    other_roles: further roles that serve it.
    operation_id: a verb and its object in camel case, unique at a port.
    summary: imperative or noun phrase, for the OpenAPI document.
    request: the model of the fields; None if the endpoint takes none.
    request_in: `JSON`, `FORM`, `QUERY` or `BODY_OR_QUERY`.
    multipart: the schema of a multipart body, which the handler reads itself.
    response: the model of a JSON response, a media type, or None if there is no body.
    errors: classes; word, status and `Retry-After` come from the class.
    not_found_type: the media type of a 404 that is not JSON.
    page_statuses: of errors that are pages.
    body_max_bytes: of the request.
    """

    method: str
    path: str
    handler: BoundHandler
    role: str
    operation_id: str
    summary: str
    auth: Auth = NO_AUTH
    request: type[Any] | None = None
    request_in: str = JSON
    multipart: Schema | None = None
    response: type[Any] | str | None = None
    errors: tuple[type[BrokerError], ...] = ()
    status: int = 200
    not_found_type: str | None = None
    error_style: ErrorStyle | None = None
    other_roles: tuple[str, ...] = ()
    page_statuses: tuple[int, ...] = ()
    body_max_bytes: int = BODY_MAX_BYTES


@dataclass(frozen=True, slots=True)
class Operation:
    """A bound handler and how its request is parsed; of an endpoint or a Socket.IO event.

    parse: raises InvalidRequest.  None if there is no request model.
    """

    handler: BoundHandler
    parse: Callable[[object], Any] | None
    read_payload: Callable[[web.Request], Awaitable[object]]

    async def read(self, http: web.Request) -> object:
        """Return the fields as sent, before they are parsed; None without a request model."""
        return None if self.parse is None else await self.read_payload(http)

    def call(
        self, *arguments: object, payload: object, path: Mapping[str, str] | None = None
    ) -> Awaitable[Any]:
        """Parse the fields and call the handler.  Raises InvalidRequest.

        arguments: the first arguments of the handler.
        path: the parameters of the path.
        """
        if self.parse is None:
            return self.handler(*arguments, **(path or {}))
        return self.handler(*arguments, self.parse(payload), **(path or {}))


Authenticator = Callable[[web.Request, Operation], Awaitable[object]]
"""Authenticates a request, calls the operation's handler and returns its result."""


@dataclass(frozen=True, slots=True)
class Route(web.AbstractRouteDef):
    """An endpoint that is served.

    alias: another path for the endpoint, which the OpenAPI document leaves out.
    """

    endpoint: Endpoint
    handler: Handler
    alias: str | None = None

    @property
    def path(self) -> str:
        return self.endpoint.path if self.alias is None else self.alias

    def register(self, router: web.UrlDispatcher) -> list[web.AbstractRoute]:
        return web.RouteDef(self.endpoint.method, self.path, self.handler, {}).register(router)


def bind_endpoints(
    api: object,
    endpoints: Iterable[Endpoint],
    authenticators: Mapping[Auth, Authenticator] | None = None,
) -> list[Route]:
    """Return a route for each endpoint, with its handler bound to `api`.

    authenticators: one for each `Auth` of the endpoints, apart from `NO_AUTH`.
    """
    known = {NO_AUTH: without_authentication, **(authenticators or {})}
    return [
        Route(endpoint, _handler(endpoint, _operation(api, endpoint), known[endpoint.auth]))
        for endpoint in endpoints
    ]


async def without_authentication(http: web.Request, operation: Operation) -> object:
    """Call the handler with the request itself."""
    payload = await operation.read(http)
    return await operation.call(http, payload=payload, path=http.match_info)


def parser_of(model: type[Any]) -> Callable[[object], Any]:
    """Return the parser of a request model; a TypedDict describes the fields only."""
    return partial(parse, model) if issubclass(model, RequestModel) else _unchanged


def _unchanged(payload: object) -> object:
    return payload


def _operation(api: object, endpoint: Endpoint) -> Operation:
    handler, model = MethodType(endpoint.handler, api), endpoint.request
    if model is None:
        return Operation(handler, None, read_json)
    is_object = endpoint.request_in == JSON and not issubclass(model, RequestModel)
    read = read_object if is_object else READERS[endpoint.request_in]
    return Operation(handler, parser_of(model), read)


def _handler(endpoint: Endpoint, operation: Operation, authenticate: Authenticator) -> Handler:
    durations = HTTP_SECONDS.labels(f"{endpoint.method} {endpoint.path}")

    async def handle(http: web.Request) -> web.StreamResponse:
        limit = endpoint.body_max_bytes
        if limit != BODY_MAX_BYTES:
            http = http.clone(client_max_size=limit)
        start = perf_counter()
        try:
            return _response(await authenticate(http, operation), endpoint.status)
        except web.HTTPRequestEntityTooLarge:
            raise InvalidRequest(f"request body is larger than {limit} bytes") from None
        finally:
            durations.observe(perf_counter() - start)

    return handle if endpoint.error_style is None else _with_style(handle, endpoint.error_style)


def _with_style(handler: Handler, style: ErrorStyle) -> Handler:
    async def handle(http: web.Request) -> web.StreamResponse:
        try:
            return await handler(http)
        except BrokerError as error:
            status = style.status(error.status)
            return error_response(to_broker_error(error), status=status, scheme=style.auth_scheme)

    return handle


def _response(result: object, status: int) -> web.StreamResponse:
    if isinstance(result, dict):
        return no_store_response(result, status)
    if result is None:
        return web.Response(status=204)
    assert isinstance(result, web.StreamResponse), "a handler returns a dict, None or a response"
    return result


async def _read_query(http: web.Request) -> object:
    return http.query


async def _read_body_or_query(http: web.Request) -> object:
    return {**http.query, **await read_object(http)}


READERS: Mapping[str, Callable[[web.Request], Awaitable[object]]] = {
    JSON: read_json,
    FORM: read_form,
    QUERY: _read_query,
    BODY_OR_QUERY: _read_body_or_query,
}
