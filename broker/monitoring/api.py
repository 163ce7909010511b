"""Health, readiness, version and metrics endpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aiohttp import hdrs, web

from broker import __version__
from broker.infrastructure.api.responses import json_response
from broker.infrastructure.observability.metrics import Gauge

ReadinessCheck = Callable[[], str | None]
"""Why this instance should get no browsers now; None when it should."""


READY = Gauge("scanlogin_ready", "1 while this instance accepts browsers, else 0")


async def live(request: web.Request) -> web.Response:
    return uncached_response({"status": "live"})


async def version(request: web.Request) -> web.Response:
    return uncached_response({"name": "scan-login-broker", "version": __version__})


def uncached_response(body: Mapping[str, str]) -> web.Response:
    return json_response(body, {hdrs.CACHE_CONTROL: "no-store"})
