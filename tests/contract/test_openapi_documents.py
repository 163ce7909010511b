"""The OpenAPI documents name, group and show each operation. No broker runs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pytest
from jsonschema_rs import Draft202012Validator

from broker.infrastructure.api.endpoint import ADMIN, NO_AUTH, Endpoint, parser_of
from broker.infrastructure.api.example_values import MODEL_VALUES
from broker.infrastructure.api.examples import NO_VALUE
from broker.infrastructure.api.openapi import DOCUMENTED_METHODS, build_document
from broker.infrastructure.api.schema import RequestModel
from tests.support.endpoints import DECLARED


def endpoints_at(port: str) -> Sequence[Endpoint]:
    """Return the documented endpoints of the admin port or of the public port."""
    return [
        endpoint
        for endpoint in DECLARED
        if endpoint.method in DOCUMENTED_METHODS and (endpoint.role == ADMIN) is (port == ADMIN)
    ]


PORTS = ("admin", "public")

DOCUMENTS: Mapping[str, dict[str, Any]] = {
    port: build_document(endpoints_at(port), port) for port in PORTS
}


class Shown(NamedTuple):
    """An example in a document, and the schema that it has to match."""

    operation: str
    place: str
    value: Any
    schema: Mapping[str, Any]


def operations(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for methods in document["paths"].values():
        yield from methods.values()


def examples(document: Mapping[str, Any]) -> Iterator[Shown]:
    for operation in operations(document):
        name = operation["operationId"]
        for parameter in operation.get("parameters", ()):
            if "example" in parameter:
                yield Shown(name, parameter["name"], parameter["example"], parameter["schema"])
        bodies = {"request": operation.get("requestBody", {}), **operation["responses"]}
        for place, body in bodies.items():
            for media in body.get("content", {}).values():
                values = [one["value"] for one in media.get("examples", {}).values()]
                for value in [*values, *([media["example"]] if "example" in media else ())]:
                    yield Shown(name, place, value, media["schema"])


def texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from texts(part)


@pytest.mark.parametrize("port", PORTS)
def test_operation_ids_are_unique_camel_case_verbs(port: str) -> None:
    ids = [operation["operationId"] for operation in operations(DOCUMENTS[port])]

    assert len(ids) == len({*ids}) > 30
    assert [name for name in ids if not re.fullmatch(r"[a-z]+([A-Z][A-Za-z]*)?", name)] == []


@pytest.mark.parametrize("port", PORTS)
def test_every_operation_has_a_described_tag(port: str) -> None:
    document = DOCUMENTS[port]
    tags = {tag["name"]: tag["description"] for tag in document["tags"]}

    used = {tag for operation in operations(document) for tag in operation["tags"]}

    assert used == tags.keys()
    assert all(tags.values())


@pytest.mark.parametrize("port", PORTS)
def test_security_schemes_are_described_and_used(port: str) -> None:
    document = DOCUMENTS[port]
    schemes = document["components"]["securitySchemes"]

    required = [one for operation in operations(document) for one in operation.get("security", ())]

    assert {name for one in required for name in one} == schemes.keys()
    assert all(scheme["description"] for scheme in schemes.values())
    assert all(f"| `{name}` |" in document["info"]["description"] for name in schemes)


@pytest.mark.parametrize("port", PORTS)
def test_operation_lists_its_credentials(port: str) -> None:
    named = {
        operation["operationId"]: operation.get("description", "")
        for operation in operations(DOCUMENTS[port])
    }

    for endpoint in endpoints_at(port):
        names = {name for some in endpoint.auth.alternatives for name in some}
        assert {*re.findall(r"`(\w+)`", named[endpoint.operation_id])} == names


@pytest.mark.parametrize("port", PORTS)
def test_examples_match_their_schemas(port: str) -> None:
    document = DOCUMENTS[port]
    shown = list(examples(document))

    for one in shown:
        schema = {**one.schema, "components": document["components"]}
        errors = [error.message for error in Draft202012Validator(schema).iter_errors(one.value)]
        assert errors == [], (one.operation, one.place)

    assert len(shown) > 200


@pytest.mark.parametrize("port", PORTS)
def test_every_json_body_has_an_example(port: str) -> None:
    found = {(one.operation, one.place) for one in examples(DOCUMENTS[port])}

    for endpoint in endpoints_at(port):
        named = endpoint.operation_id
        if endpoint.request is not None and endpoint.request_in != "query":
            assert (named, "request") in found
        if isinstance(endpoint.response, type):
            assert (named, str(endpoint.status)) in found


@pytest.mark.parametrize("port", PORTS)
def test_request_examples_are_accepted_by_their_models(port: str) -> None:
    shown = [one for one in examples(DOCUMENTS[port]) if one.place == "request"]
    models = {one.operation_id: one.request for one in endpoints_at(port)}

    for one in shown:
        model = models[one.operation]
        assert model is not None
        assert isinstance(parser_of(model)(one.value), RequestModel | dict)


@pytest.mark.parametrize("port", PORTS)
def test_every_text_in_an_example_is_meaningful(port: str) -> None:
    shown = [one for one in examples(DOCUMENTS[port]) if NO_VALUE in texts(one.value)]

    assert [(one.operation, one.place, one.value) for one in shown] == []


def test_values_of_models_name_fields_of_models() -> None:
    fields = {
        f"{model}.{field}"
        for document in DOCUMENTS.values()
        for model, schema in document["components"]["schemas"].items()
        for field in schema.get("properties", ())
    }

    assert MODEL_VALUES.keys() - fields == set()


def test_endpoint_without_credentials_has_no_security() -> None:
    [endpoint] = [one for one in DECLARED if one.operation_id == "getKeySet"]
    [operation] = operations(build_document([endpoint], "a port"))

    assert endpoint.auth is NO_AUTH
    assert "security" not in operation
    assert "description" not in operation
