"""Fixtures of the API tests."""

from __future__ import annotations

import pytest

from broker.bus import redis as redis_bus


@pytest.fixture(autouse=True)
def _heartbeats_may_be_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine delays heartbeats. After a lost subscription, browsers get the latest event
    of their login only, but these tests expect each event."""
    monkeypatch.setattr(redis_bus, "HEARTBEAT_TIMEOUT", 60.0)
