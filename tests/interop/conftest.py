"""The provider of the products."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.builders import StartBroker
from tests.support.interop import Interop
from tests.support.oidc_provider import two_instances_in_turn
from tests.support.openid_broker import FullDirectory
from tests.support.servers.redis import Engines


@pytest.fixture
async def interop(
    start_broker: StartBroker,
    tmp_path: Path,
    records_file: Path,
    engines: Engines,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Interop]:
    """A provider with two instances, whose directory has the names of its users."""
    # Each test adds an app, and some rotate the keys, and they wait for both instances.
    monkeypatch.setattr("broker.records.app_cache.REFRESH_INTERVAL", 0.1)
    monkeypatch.setattr("broker.tokens.issuer.RELOAD_INTERVAL", 0.1)
    start = partial(start_broker, directory=FullDirectory())
    async with two_instances_in_turn(start, tmp_path, engines) as provider:
        yield Interop(provider, records_file)
