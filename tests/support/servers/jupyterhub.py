"""JupyterHub, its proxy, and no notebook servers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.environment import free_port
from tests.support.interop import node_program, program_of, running_product

SERVER = """
c.JupyterHub.bind_url = "{url}"
c.JupyterHub.hub_port = {hub_port}
c.JupyterHub.redirect_to_server = False
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{proxy_port}"
c.ConfigurableHTTPProxy.command = ["{proxy}"]
"""


@asynccontextmanager
async def running_jupyterhub(folder: Path, url: str, configuration: str) -> AsyncIterator[Path]:
    """Run JupyterHub at `url`; yields its log."""
    program, proxy = program_of("jupyterhub", "jupyterhub"), node_program("configurable-http-proxy")
    folder.mkdir()
    ports = {"hub_port": free_port(), "proxy_port": free_port()}
    server = SERVER.format(url=url, proxy=proxy, **ports)
    (folder / "jupyterhub_config.py").write_text(configuration + server)
    async with running_product([program], folder, f"{url}/hub/health") as log:
        yield log
