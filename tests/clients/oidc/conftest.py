"""The provider of the relying parties, in each layout."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.builders import StartBroker
from tests.support.oidc_provider import LAYOUTS, Provider
from tests.support.servers.redis import Engines


@pytest.fixture(params=LAYOUTS)
async def provider(
    request: pytest.FixtureRequest,
    start_broker: StartBroker,
    tmp_path: Path,
    engines: Engines,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Provider]:
    # Each test adds an app and waits until all instances have read it.
    monkeypatch.setattr("broker.records.app_cache.REFRESH_INTERVAL", 0.1)
    # Some rotate the keys and wait until all instances have read the file.
    monkeypatch.setattr("broker.tokens.issuer.RELOAD_INTERVAL", 0.1)
    async with LAYOUTS[request.param](start_broker, tmp_path, engines) as provider:
        yield provider
