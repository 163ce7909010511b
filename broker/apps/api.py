"""Apps over HTTP, on the operator's port: the same as `scan-login app`, for programs.

Secrets go in and never come out, but for an app's own, once, when it is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from broker.errors import InvalidRequest
from broker.infrastructure.api.authorization import Authorization
from broker.infrastructure.api.bodies import read_object
from broker.infrastructure.api.responses import no_store_response

if TYPE_CHECKING:
    from broker.records.app_admin import SqlAppAdmin
    from broker.records.app_cache import AppCache


log = structlog.get_logger()


class AppsAPI:
    """apps: what this instance knows at once of its own changes."""

    def __init__(self, *, app_admin: SqlAppAdmin, apps: AppCache, authorize: Authorization) -> None:
        self._book = app_admin
        self._apps = apps
        self._guarded = authorize

    def routes(self) -> list[web.RouteDef]:
        one = "/apps/{id:[A-Za-z0-9._-]+}"
        return [
            web.get("/apps", self._guarded(self._list)),
            web.post("/apps", self._guarded(self._add)),
            web.get(one, self._guarded(self._get)),
            web.patch(one, self._guarded(self._change)),
            web.delete(one, self._guarded(self._remove)),
            web.post(f"{one}/rotate-secret", self._guarded(self._rotate)),
        ]

    async def _list(self, request: web.Request) -> web.Response:
        return no_store_response({"apps": [one.as_dict() for one in await self._book.list()]})

    async def _get(self, request: web.Request) -> web.Response:
        return no_store_response((await self._book.get(_id(request))).as_dict())

    async def _add(self, request: web.Request) -> web.Response:
        fields = {**await read_object(request)}
        app_id = fields.pop("id", "")
        if not isinstance(app_id, str):
            raise InvalidRequest("id: want a string")
        added = await self._book.add(app_id, fields)
        await self._changed(app_id, "added")
        return no_store_response(added.as_dict(), status=201)

    async def _change(self, request: web.Request) -> web.Response:
        changed = await self._book.update(_id(request), await read_object(request))
        await self._changed(_id(request), "changed")
        return no_store_response(changed.as_dict())

    async def _remove(self, request: web.Request) -> web.Response:
        await self._book.remove(_id(request))
        await self._changed(_id(request), "removed")
        return web.Response(status=204)

    async def _rotate(self, request: web.Request) -> web.Response:
        secret = await self._book.rotate_secret(_id(request))
        await self._changed(_id(request), "given a new secret")
        return no_store_response({"api_secret": secret})

    async def _changed(self, app_id: str, what: str) -> None:
        log.info("an app was changed over the admin port", app=app_id, change=what)
        await self._apps.refresh()


def _id(request: web.Request) -> str:
    return request.match_info["id"]
