"""Health, readiness, version and metrics endpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from aiohttp import hdrs, web

from broker import __version__
from broker.errors import Unavailable
from broker.infrastructure.api.endpoint import ADMIN, PUBLIC, Endpoint
from broker.infrastructure.api.mounted import ReadinessCheck
from broker.infrastructure.api.responses import error_response, json_response
from broker.infrastructure.api.schema import ResponseModel
from broker.infrastructure.observability.metrics import CONTENT_TYPE, render
from broker.monitoring.metrics import READY, SIGNING_KEY_AGE, STATE_UP


class StatusResponse(ResponseModel):
    status: str


class VersionResponse(ResponseModel):
    name: str
    version: str


class HealthAPI:
    """unready_reason: of this instance.

    state_problem: why the state cannot be reached; None if it can.
    signing_key_age: seconds since the signing keys were rotated.
    """

    def __init__(
        self,
        *,
        unready_reason: ReadinessCheck,
        state_problem: ReadinessCheck,
        signing_key_age: Callable[[], float],
    ) -> None:
        self._unready_reason = unready_reason
        self._state_problem = state_problem
        self._signing_key_age = signing_key_age

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
        STATE_UP.set(self._state_problem() is None)
        SIGNING_KEY_AGE.set(self._signing_key_age())
        return web.Response(body=render(), headers={hdrs.CONTENT_TYPE: CONTENT_TYPE})


def _uncached_response(body: Mapping[str, str]) -> web.Response:
    return json_response(body, {hdrs.CACHE_CONTROL: "no-store"})


PUBLIC_ENDPOINTS = [
    Endpoint(
        "GET",
        "/health/live",
        HealthAPI.live,
        role=PUBLIC,
        operation_id="checkLiveness",
        summary="Whether the process runs",
        response=StatusResponse,
    ),
    Endpoint(
        "GET",
        "/health/ready",
        HealthAPI.ready,
        role=PUBLIC,
        operation_id="checkReadiness",
        summary="Whether this instance accepts browsers",
        response=StatusResponse,
    ),
    Endpoint(
        "GET",
        "/version",
        HealthAPI.version,
        role=PUBLIC,
        operation_id="getVersion",
        summary="Name and version of the broker",
        response=VersionResponse,
    ),
]

ADMIN_ENDPOINTS = [
    Endpoint(
        "GET",
        "/metrics",
        HealthAPI.metrics,
        role=ADMIN,
        operation_id="getMetrics",
        summary="Metrics in the Prometheus text format",
        response="text/plain",
    ),
    *(replace(endpoint, role=ADMIN) for endpoint in PUBLIC_ENDPOINTS),
]

ENDPOINTS = [*PUBLIC_ENDPOINTS, *ADMIN_ENDPOINTS]
