"""The operations of an OpenAPI document: parameters, bodies, responses, errors and examples."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from broker.errors import BrokerError, InvalidRequest, RateLimited, Unavailable
from broker.infrastructure.api.endpoint import BODY_OR_QUERY, JSON, QUERY, Auth, Endpoint, Schema
from broker.infrastructure.api.examples import Examples, path_example

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

RATE_LIMIT_RETRY = 60
"""Seconds in the example of an error whose class sets no time."""


def tag_of(endpoint: Endpoint) -> str:
    """Return the name of the endpoint's feature."""
    return package_of(endpoint).rpartition(".")[2]


def package_of(endpoint: Endpoint) -> str:
    return endpoint.handler.__module__.rpartition(".")[0]


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
        self.requests = Examples(self.definitions, is_request=True)
        self.responses = Examples(self.definitions, is_request=False)

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


def describe_operation(endpoint: Endpoint, path: str, schemas: Schemas) -> dict[str, Any]:
    """Return the operation.  path: without patterns, such as `/apps/{id}`."""
    operation: dict[str, Any] = {
        "operationId": endpoint.operation_id,
        "tags": [tag_of(endpoint)],
        "summary": endpoint.summary,
        "responses": {**_success(endpoint, schemas), **_errors(endpoint)},
    }
    parameters = [*_path_parameters(endpoint, path), *_query_parameters(endpoint, schemas)]
    if parameters:
        operation["parameters"] = parameters
    body = _request_body(endpoint, schemas)
    if body:
        operation["requestBody"] = body
    if endpoint.auth.alternatives:
        operation["description"] = f"Credentials: {_alternatives(endpoint.auth)}."
        operation["security"] = [
            {name: [] for name in names} for names in endpoint.auth.alternatives
        ]
    return operation


def _alternatives(auth: Auth) -> str:
    """Return the names of the schemes as text, such as "`appSecret`, or `adminToken`"."""
    return ", or ".join(
        " and ".join(f"`{name}`" for name in names) or "none" for names in auth.alternatives
    )


def _request_body(endpoint: Endpoint, schemas: Schemas) -> dict[str, Any] | None:
    if endpoint.multipart is not None:
        return {
            "required": True,
            "content": {"multipart/form-data": {"schema": endpoint.multipart}},
        }
    if endpoint.request is None or endpoint.request_in == QUERY:
        return None
    schema = schemas.reference(endpoint.request)
    media_type = JSON if endpoint.request_in == BODY_OR_QUERY else endpoint.request_in
    content = {media_type: {"schema": schema, "example": schemas.requests.of(schema)}}
    required = bool(schemas.resolve(endpoint.request).get("required"))
    return {"required": required, "content": content}


def _path_parameters(endpoint: Endpoint, path: str) -> Iterator[Schema]:
    for name in re.findall(r"{(\w+)}", path):
        example = path_example(tag_of(endpoint), name)
        yield {"name": name, "in": "path", "required": True, "schema": TEXT, "example": example}


def _query_parameters(endpoint: Endpoint, schemas: Schemas) -> Iterator[Schema]:
    if endpoint.request is None or endpoint.request_in != QUERY:
        return
    model = schemas.resolve(endpoint.request)
    examples = schemas.requests.of(schemas.reference(endpoint.request))
    for name, schema in model["properties"].items():
        parameter = {
            "name": name,
            "in": "query",
            "required": name in model.get("required", ()),
            "schema": schema,
        }
        yield {**parameter, "example": examples[name]} if name in examples else parameter


def _success(endpoint: Endpoint, schemas: Schemas) -> dict[str, Schema]:
    response: dict[str, Any] = {"description": "success"}
    if isinstance(endpoint.response, str):
        response["content"] = {endpoint.response: {"schema": TEXT}}
    elif endpoint.response is not None:
        schema = schemas.reference(endpoint.response)
        example = schemas.responses.of(schema)
        response["content"] = _json(schema, {"example": example} if example else {})
    return {str(endpoint.status): response}


def _errors(endpoint: Endpoint) -> dict[str, dict[str, Any]]:
    """Return the error responses by status, with the words of each."""
    kinds: dict[int, dict[str, type[BrokerError]]] = {}
    style = endpoint.error_style
    for kind in (*COMMON_ERRORS, *endpoint.auth.errors, *endpoint.errors):
        status = style.status(kind.status) if style else kind.status
        kinds.setdefault(status, {}).setdefault(kind.error, kind)
    if "{" in endpoint.path:  # a parameter that does not match is an unknown path
        kinds.setdefault(404, {}).setdefault(InvalidRequest.error, InvalidRequest)
    errors = {str(status): _error(status, found) for status, found in sorted(kinds.items())}
    for page in map(str, endpoint.page_statuses):
        error = errors.setdefault(page, {"description": "an error page"})
        error["content"] = {**error.get("content", {}), "text/html": {"schema": TEXT}}
    if endpoint.not_found_type:
        content = {endpoint.not_found_type: {"schema": TEXT}}
        errors["404"] = {"description": "not found", "content": content}
    return errors


def _error(status: int, kinds: Mapping[str, type[BrokerError]]) -> dict[str, Any]:
    schema = {
        "allOf": [
            {"$ref": "#/components/schemas/Failure"},
            {"properties": {"error": {"enum": [*kinds]}}},
        ]
    }
    examples = {word: {"value": _error_example(kind)} for word, kind in kinds.items()}
    error: dict[str, Any] = {
        "description": ", ".join(f"`{word}`" for word in kinds),
        "content": _json(schema, {"examples": examples}),
    }
    if status in RETRY_AFTER_STATUSES:
        error["headers"] = {"Retry-After": {"schema": {"type": "integer"}}}
    return error


def _error_example(kind: type[BrokerError]) -> dict[str, object]:
    """Return the body of an error.  Classes without a description describe each case."""
    text = getattr(kind, "description", "the mistake in the request, and its correction")
    body = {"error": kind.error, "error_description": text}
    seconds = RATE_LIMIT_RETRY if kind is RateLimited else kind.retry_after
    return body if seconds is None else {**body, "retry_after": seconds}


def _json(schema: Schema, examples: Mapping[str, Any]) -> Schema:
    return {JSON: {"schema": schema, **examples}}
