"""Fixtures of the tests of clients."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.builders import StartBroker
from tests.support.client_packages import install_node, install_python, once
from tests.support.widget_pages import Serve, serving


@pytest.fixture
async def serve(start_broker: StartBroker) -> AsyncIterator[Serve]:
    async with serving(start_broker) as start:
        yield start


@pytest.fixture(scope="session")
def python_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and what it requires, and nothing else."""
    return once(tmp_path_factory, "client-python", install_python)


@pytest.fixture(scope="session")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tarball and what it requires, and nothing else."""
    return once(tmp_path_factory, "client-node", install_node)
