"""The pools of codes, over HTTP at the admin port."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Annotated, NotRequired

from pydantic import Field

from broker.apps.model import App
from broker.apps.ports import Apps
from broker.infrastructure.api.authorization import OPERATOR
from broker.infrastructure.api.endpoint import ADMIN, Endpoint
from broker.infrastructure.api.schema import Count, RequestModel, ResponseModel
from broker.pool.errors import FillRunning, PoolNotFound
from broker.pool.maintainer import error_note
from broker.pool.model import PoolReport
from broker.pool.ports import CodeLeases
from broker.pool.requested_fills import RequestedFills

FILL_MAX = 1_000_000
"""Codes, as of `scan-login pool fill`."""


class FillRequest(RequestModel):
    """count: codes that the pool should have."""

    count: Annotated[int, Field(ge=1, le=FILL_MAX)]


class FillResponse(ResponseModel):
    """The fill that has begun."""

    app: str
    count: Count


class PoolView(ResponseModel):
    """The pool of an app.

    free, leased, cooldown: codes by state.
    target: codes that it should have.  lease_rate: leases per second.
    refilled_at: Unix time of the last refill by the answering instance.
    error: why the last refill of an instance failed.
    """

    app: str
    free: Count
    leased: Count
    cooldown: Count
    target: Count
    lease_rate: float
    health: str
    refilled_at: NotRequired[float]
    error: NotRequired[str]


class PoolsResponse(ResponseModel):
    pools: list[PoolView]


UNKNOWN = PoolReport(health="unknown", lease_rate=0.0, target=0, refilled_at=None, error="")
"""Before the first round of the scheduler."""


class PoolAdminAPI:
    """reports: of this instance, by the app's key.  notes: of the other instances, by name."""

    def __init__(
        self,
        *,
        apps: Apps,
        leases: CodeLeases,
        reports: Callable[[], Mapping[str, PoolReport]],
        notes: Callable[[str], Collection[str]],
        fills: RequestedFills,
    ) -> None:
        self._apps = apps
        self._leases = leases
        self._reports = reports
        self._notes = notes
        self._fills = fills

    async def list(self) -> PoolsResponse:
        apps = sorted(self._apps.with_pool(), key=lambda app: app.id)
        return {"pools": [await self._view(app) for app in apps]}

    async def fill(self, body: FillRequest, app: str) -> FillResponse:
        """Raises PoolNotFound or FillRunning."""
        found = next((one for one in self._apps.with_pool() if one.id == app), None)
        if found is None:
            raise PoolNotFound
        await self._fills.start(found, body.count)
        return {"app": app, "count": body.count}

    async def _view(self, app: App) -> PoolView:
        level = await self._leases.level(app.key)
        report = self._reports().get(app.key, UNKNOWN)
        view: PoolView = {
            "app": app.id,
            "free": level.free,
            "leased": level.leased,
            "cooldown": level.resting,
            "target": report.target,
            "lease_rate": report.lease_rate,
            "health": report.health,
        }
        if report.refilled_at is not None:
            view["refilled_at"] = report.refilled_at
        requested = self._fills.error(app, report.refilled_at)
        errors = [requested, report.error, *self._notes(error_note(app.key))]
        error = next(filter(None, errors), "")
        return {**view, "error": error} if error else view


ENDPOINTS = [
    Endpoint(
        "GET",
        "/pool",
        PoolAdminAPI.list,
        role=ADMIN,
        auth=OPERATOR,
        operation_id="listPools",
        summary="List the pools of codes",
        response=PoolsResponse,
    ),
    Endpoint(
        "POST",
        "/pool/{app:[A-Za-z0-9._-]+}/fill",
        PoolAdminAPI.fill,
        role=ADMIN,
        auth=OPERATOR,
        operation_id="fillPool",
        summary="Draw codes in the background until the pool has a number of them",
        request=FillRequest,
        response=FillResponse,
        status=202,
        errors=(PoolNotFound, FillRunning),
    ),
]
