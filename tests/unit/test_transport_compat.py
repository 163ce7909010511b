"""Tests of the native engine's requirements: it is not used if a name of a package is missing."""

from __future__ import annotations

from typing import Any

import engineio
import pytest
import socketio
import structlog
from aiohttp.web_protocol import RequestHandler

from broker.infrastructure.transport.compat import missing_attributes
from broker.infrastructure.transport.engineio.sessions import EndReason
from broker.infrastructure.transport.engines import open_server
from broker.infrastructure.transport.fallback.server import FallbackServer
from broker.infrastructure.transport.socketio.native import NativeServer

OPEN: dict[str, Any] = {
    "is_origin_allowed": lambda origin: True,
    "describe_request": lambda request: None,
}


def test_every_required_name_exists() -> None:
    assert missing_attributes() == []
    assert type(open_server("own", **OPEN)) is NativeServer


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (RequestHandler, "_message_tail"),
        (RequestHandler, "force_close"),
        (socketio.AsyncServer, "_handle_event"),
        (socketio.AsyncManager, "emit"),
        (engineio.AsyncServer, "send_packet"),
    ],
)
def test_missing_name_selects_the_stock_engine_with_warning(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    holder = next(kind for kind in owner.__mro__ if name in vars(kind))
    monkeypatch.delattr(holder, name)

    with structlog.testing.capture_logs() as lines:
        server = open_server("own", **OPEN)

    assert type(server) is FallbackServer
    [line] = lines
    assert line["log_level"] == "warning"
    assert f"{owner.__name__}.{name}" in line["missing"]


def test_end_reasons_are_those_of_python_engineio() -> None:
    reasons = {value for name, value in vars(engineio.AsyncServer.reason).items() if name.isupper()}

    assert {reason.value for reason in EndReason} == reasons
