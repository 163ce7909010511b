"""nginx with the configuration of `deploy/`, in front of brokers in the test process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from deploy import nginx
from deploy.processes import listening_process
from tests.support.environment import need

SHIPPED_RATE = "50r/s"
"""The limit in deploy/scan-login/http.conf."""


@asynccontextmanager
async def nginx_before(
    brokers: Sequence[str], folder: Path, port: int, *, rate: str = SHIPPED_RATE
) -> AsyncIterator[str]:
    """Serve the brokers at these URLs on `port`; yields the URL for clients.

    rate: maximum rate of requests of one address.
    """
    need("nginx")
    folder.mkdir()
    conf = nginx.render(folder, port=port, proxy=None)
    limits = folder / "scan-login" / "http.conf"
    limits.write_text(limits.read_text().replace(f"rate={SHIPPED_RATE};", f"rate={rate};"))
    nginx.write_brokers(folder, [url.removeprefix("http://") for url in brokers])
    async with listening_process("nginx", nginx.command(conf), folder, port):
        yield f"http://127.0.0.1:{port}"


async def can_connect(port: int) -> bool:
    """Return whether a server listens on this port of 127.0.0.1."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
