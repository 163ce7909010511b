"""The client packages for backends, installed once per run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.client_packages import install_node, install_python, once


@pytest.fixture(scope="session")
def python_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and what it requires, and nothing else."""
    return once(tmp_path_factory, "client-python", install_python)


@pytest.fixture(scope="session")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tarball and what it requires, and nothing else."""
    return once(tmp_path_factory, "client-node", install_node)
