"""Envoy with the configuration of the demo, before an upstream of the test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from broker.cli.demo import gateway
from deploy.processes import listening_process
from tests.support.environment import free_port, miss


@asynccontextmanager
async def running_envoy(
    folder: Path, port: int, issuer: str, secret: str, upstream: int
) -> AsyncIterator[str]:
    """Run Envoy before the server at port `upstream`; yields its URL."""
    folder.mkdir()
    configuration = gateway.write_configuration(
        folder,
        host="127.0.0.1",
        port=port,
        admin=free_port(),
        issuer=issuer,
        secret=secret,
        upstream=upstream,
    )
    try:
        command = gateway.command(configuration)
    except gateway.GatewayMissing as error:
        miss(str(error))
    async with listening_process("envoy", command, folder, port):
        yield f"http://127.0.0.1:{port}"
