"""Serves an application of a test."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from broker.infrastructure.runtime.server import StoppingSite

SHUTDOWN_TIMEOUT = 0.1
"""Seconds for requests in progress at the end."""


@asynccontextmanager
async def serving(
    application: web.Application, port: int = 0, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """Serve on a port of the loopback address, and yield the port. 0 chooses a free one.

    A broker may connect while the site stops. `StoppingSite` closes such a connection too.
    """
    runner = web.AppRunner(application, shutdown_timeout=SHUTDOWN_TIMEOUT)
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", port))
    try:
        await StoppingSite(runner, listener, ssl_context=tls).start()
        yield int(listener.getsockname()[1])
    finally:
        await runner.cleanup()
