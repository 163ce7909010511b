"""Switches the short paths of usual messages off."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

TRANSPORT = "broker.infrastructure.transport"
RUNNER = "broker.infrastructure.runtime.http_runner"

SHORT_PATHS: Sequence[tuple[str, object]] = [
    (f"{TRANSPORT}.websocket.acceptor.parse_upgrade", lambda data, transport: None),
    (f"{TRANSPORT}.websocket.frames.WHOLE_MESSAGES", frozenset[int]()),
    (f"{TRANSPORT}.socketio.server.parse_connect", lambda message: None),
    (f"{TRANSPORT}.socketio.server.parse_event", lambda message: None),
    (f"{RUNNER}.plain_routes", lambda app: {}),
    (f"{RUNNER}.is_usual", lambda response, request: False),
]
"""The names that select a short path, and what they are without it."""


def use_general_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let aiohttp parse all requests, and python-socketio all packets, of new brokers."""
    for name, replacement in SHORT_PATHS:
        monkeypatch.setattr(name, replacement)
