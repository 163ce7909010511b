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
    request: pytest.FixtureRequest, start_broker: StartBroker, tmp_path: Path, engines: Engines
) -> AsyncIterator[Provider]:
    async with LAYOUTS[request.param](start_broker, tmp_path, engines) as provider:
        yield provider
