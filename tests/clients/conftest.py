"""Fixtures of the tests of clients."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.builders import StartBroker
from tests.support.widget_pages import Serve, serving


@pytest.fixture
async def serve(start_broker: StartBroker) -> AsyncIterator[Serve]:
    async with serving(start_broker) as start:
        yield start
