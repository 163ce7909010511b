"""Start and stop of an instance."""

from __future__ import annotations

import structlog
from aiohttp import web

from broker.infrastructure.runtime.lifecycle import Lifecycle, do_nothing


async def test_start_drain_and_stop_are_logged_once() -> None:
    lifecycle = Lifecycle(
        [], drain=lambda: None, close_sockets=do_nothing, fields={"instance": "one"}
    )
    application = web.Application()

    with structlog.testing.capture_logs() as lines:
        running = lifecycle.run(application)
        await anext(running)
        lifecycle.drain()
        await lifecycle.close_sockets(application)
        await anext(running, None)

    events = ["instance started", "instance draining", "instance stopped"]
    assert lines == [{"event": one, "log_level": "info", "instance": "one"} for one in events]
