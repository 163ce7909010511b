"""pgAdmin as a server, with its own folder of data."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.interop import program_of, running_product

SERVER = """
DATA_DIR = "{folder}/data"
DEFAULT_SERVER = "127.0.0.1"
DEFAULT_SERVER_PORT = {port}
UPGRADE_CHECK_ENABLED = False
"""

ADMINISTRATOR = {
    "PGADMIN_SETUP_EMAIL": "admin@site.example",
    "PGADMIN_SETUP_PASSWORD": "a-password-of-this-test",
}
"""The account that pgAdmin creates at its first start."""


@asynccontextmanager
async def running_pgadmin(folder: Path, port: int, configuration: str) -> AsyncIterator[str]:
    """Run pgAdmin; yields its URL."""
    program = program_of("pgadmin", "pgadmin4")
    folder.mkdir()
    (folder / "config_local.py").write_text(configuration + SERVER.format(folder=folder, port=port))
    url = f"http://127.0.0.1:{port}"
    async with running_product(
        [program], folder, f"{url}/misc/ping", PYTHONPATH=str(folder), **ADMINISTRATOR
    ):
        yield url
