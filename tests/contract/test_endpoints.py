"""Each endpoint and event is declared as its handler is written."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

import pytest
from aiohttp import web

from broker.infrastructure.api.endpoint import ADMIN, PUBLIC, Endpoint
from broker.infrastructure.api.event import Event
from broker.infrastructure.api.schema import RequestModel
from broker.settings import ROLES
from tests.support.endpoints import DECLARED, EVENTS


def endpoint_name(endpoint: Endpoint) -> str:
    return f"{endpoint.method} {endpoint.path}"


def event_name(event: Event) -> str:
    return f"{event.namespace} {event.name}"


def expected_request(model: type[Any] | None) -> list[Any]:
    """The types of a handler's request: the model, or any object that a TypedDict describes."""
    if model is None:
        return []
    return [model if issubclass(model, RequestModel) else Mapping[str, object]]


def request_types(handler: Callable[..., Any]) -> list[Any]:
    """The types of the parameters `body` and `query`."""
    hints = get_type_hints(handler)
    return [hints[name] for name in ("body", "query") if name in hints]


@pytest.mark.parametrize("endpoint", DECLARED, ids=endpoint_name)
def test_endpoint_handler_takes_the_declared_request(endpoint: Endpoint) -> None:
    assert request_types(endpoint.handler) == expected_request(endpoint.request)


@pytest.mark.parametrize("endpoint", DECLARED, ids=endpoint_name)
def test_endpoint_handler_returns_the_declared_response(endpoint: Endpoint) -> None:
    returned = get_type_hints(endpoint.handler)["return"]
    builds_response = inspect.isclass(returned) and issubclass(returned, web.StreamResponse)

    assert returned in (endpoint.response, type(endpoint.response)) or builds_response


@pytest.mark.parametrize("endpoint", DECLARED, ids=endpoint_name)
def test_endpoint_has_a_known_role(endpoint: Endpoint) -> None:
    assert endpoint.role in {*ROLES, PUBLIC, ADMIN}


@pytest.mark.parametrize("event", EVENTS, ids=event_name)
def test_event_handler_takes_the_declared_request(event: Event) -> None:
    assert request_types(event.handler) == [event.request]


@pytest.mark.parametrize("event", EVENTS, ids=event_name)
def test_event_handler_returns_the_declared_response(event: Event) -> None:
    assert get_type_hints(event.handler)["return"] is event.response
