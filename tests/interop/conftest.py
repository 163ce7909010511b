"""The provider of the products."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.builders import StartBroker
from tests.support.interop import Interop
from tests.support.oidc_provider import one_instance
from tests.support.openid_broker import FullDirectory


@pytest.fixture
async def interop(
    start_broker: StartBroker, tmp_path: Path, records_file: Path
) -> AsyncIterator[Interop]:
    """A provider whose directory has the names of its users."""
    start = partial(start_broker, directory=FullDirectory())
    async with one_instance(start, tmp_path) as provider:
        yield Interop(provider, records_file)
