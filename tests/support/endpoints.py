"""All endpoints and Socket.IO events that the features declare."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

from broker.infrastructure.api.endpoint import Endpoint
from broker.infrastructure.api.event import Event
from broker.infrastructure.api.openapi import DOCUMENTED_METHODS, name_of
from tests.support.environment import ROOT


def api_modules() -> Iterator[Any]:
    for file in sorted((ROOT / "broker").rglob("*api.py")):
        yield import_module(".".join(file.relative_to(ROOT).with_suffix("").parts))


DECLARED: Sequence[Endpoint] = [
    endpoint for module in api_modules() for endpoint in getattr(module, "ENDPOINTS", ())
]

EVENTS: Sequence[Event] = [
    event for module in api_modules() for event in getattr(module, "SOCKET_EVENTS", ())
]

ENDPOINTS: Mapping[str, Endpoint] = {
    name_of(endpoint.method, endpoint.path): endpoint
    for endpoint in DECLARED
    if endpoint.method in DOCUMENTED_METHODS
}
"""Every documented endpoint by its name, such as `GET /apps/{id}`."""


def event_names(namespace: str) -> list[str]:
    return [event.name for event in EVENTS if event.namespace == namespace]
