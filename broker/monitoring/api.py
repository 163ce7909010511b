"""Health, readiness, version and metrics endpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aiohttp import hdrs, web

from broker import __version__
from broker.errors import Unavailable
from broker.infrastructure.api.responses import error_response, json_response
from broker.infrastructure.observability.metrics import CONTENT_TYPE, Gauge, render

ReadinessCheck = Callable[[], str | None]
"""Returns why this instance should get no browsers; None if it should."""


READY = Gauge("scanlogin_ready", "1 while this instance accepts browsers, else 0")


class HealthAPI:
    def __init__(self, *, unready_reason: ReadinessCheck) -> None:
        self._unready_reason = unready_reason

    def routes(self) -> list[web.RouteDef]:
        """Return the endpoints of both ports."""
        return [
            web.get("/health/live", self.live),
            web.get("/health/ready", self.ready),
            web.get("/version", self.version),
        ]

    def admin_routes(self) -> list[web.RouteDef]:
        return [web.get("/metrics", self.metrics), *self.routes()]

    async def live(self, request: web.Request) -> web.Response:
        return _uncached_response({"status": "live"})

    async def ready(self, request: web.Request) -> web.Response:
        reason = self._unready_reason()
        if reason is not None:
            return error_response(Unavailable(reason))
        return _uncached_response({"status": "ready"})

    async def version(self, request: web.Request) -> web.Response:
        return _uncached_response({"name": "scan-login-broker", "version": __version__})

    async def metrics(self, request: web.Request) -> web.Response:
        READY.set(self._unready_reason() is None)
        return web.Response(body=render(), headers={hdrs.CONTENT_TYPE: CONTENT_TYPE})


def _uncached_response(body: Mapping[str, str]) -> web.Response:
    return json_response(body, {hdrs.CACHE_CONTROL: "no-store"})
