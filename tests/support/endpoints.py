"""All endpoints and Socket.IO events that the features declare."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from broker.calls import UNDECLARED
from broker.infrastructure.api.endpoint import Endpoint
from broker.infrastructure.api.openapi import DOCUMENTED_METHODS, name_of
from tests.support.environment import ROOT


def api_modules() -> Iterator[Any]:
    for file in sorted((ROOT / "broker").rglob("*api.py")):
        yield import_module(".".join(file.relative_to(ROOT).with_suffix("").parts))


def declared() -> list[Endpoint]:
    return [
        endpoint
        for module in api_modules()
        for endpoint in getattr(module, "ENDPOINTS", ())
        if isinstance(endpoint, Endpoint)
    ]


ENDPOINTS: Mapping[str, Endpoint] = {
    **UNDECLARED,
    **{
        name_of(one.method, one.path): one for one in declared() if one.method in DOCUMENTED_METHODS
    },
}
"""Every documented endpoint by its name, such as `GET /apps/{id}`."""
