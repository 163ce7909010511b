"""Our own engine leans on names of other packages: it is not used where one of them is gone."""

from __future__ import annotations

from typing import Any

import engineio
import pytest
import socketio
import structlog
from aiohttp.web_protocol import RequestHandler

from broker.infrastructure.transport import compat as names
from broker.infrastructure.transport import fallback as stock
from broker.infrastructure.transport import open_server
from broker.infrastructure.transport.socketio import native as own

OPEN = {"is_origin_allowed": lambda origin: True, "describe_request": lambda request: None}


def test_every_name_is_there() -> None:
    assert names.missing_attributes() == []
    assert type(open_server("own", **OPEN)) is own.NativeServer


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
def test_without_one_the_stock_engine_serves_and_the_log_says_why(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    holder = next(kind for kind in owner.__mro__ if name in vars(kind))
    monkeypatch.delattr(holder, name)

    with structlog.testing.capture_logs() as lines:
        server = open_server("own", **OPEN)

    assert type(server) is stock.FallbackServer
    [line] = lines
    assert line["log_level"] == "warning"
    assert f"{owner.__name__}.{name}" in line["lacking"]
