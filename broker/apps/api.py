"""Administration of apps over HTTP at the admin port, as by `scan-login app`.

No response contains a secret, except that of a new secret for the app's own servers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog
from aiohttp import web

from broker.apps.ports import AppAdmin
from broker.errors import InvalidRequest
from broker.infrastructure.api.authorization import Authorization
from broker.infrastructure.api.bodies import read_object
from broker.infrastructure.api.responses import no_store_response

log = structlog.get_logger()


class AppsAPI:
    """refresh: makes this instance read the apps again after a change."""

    def __init__(
        self,
        *,
        app_admin: AppAdmin,
        refresh: Callable[[], Awaitable[None]],
        authorize: Authorization,
    ) -> None:
        self._app_admin = app_admin
        self._refresh = refresh
        self._authorize = authorize

    def routes(self) -> list[web.RouteDef]:
        one = "/apps/{id:[A-Za-z0-9._-]+}"
        return [
            web.get("/apps", self._authorize(self._list)),
            web.post("/apps", self._authorize(self._add)),
            web.get(one, self._authorize(self._get)),
            web.patch(one, self._authorize(self._change)),
            web.delete(one, self._authorize(self._remove)),
            web.post(f"{one}/rotate-secret", self._authorize(self._rotate)),
        ]

    async def _list(self, request: web.Request) -> web.Response:
        return no_store_response({"apps": [one.as_dict() for one in await self._app_admin.list()]})

    async def _get(self, request: web.Request) -> web.Response:
        return no_store_response((await self._app_admin.get(_id(request))).as_dict())

    async def _add(self, request: web.Request) -> web.Response:
        fields = {**await read_object(request)}
        app_id = fields.pop("id", "")
        if not isinstance(app_id, str):
            raise InvalidRequest("id: must be a string")
        added = await self._app_admin.add(app_id, fields)
        await self._changed(app_id, "added")
        return no_store_response(added.as_dict(), status=201)

    async def _change(self, request: web.Request) -> web.Response:
        changed = await self._app_admin.update(_id(request), await read_object(request))
        await self._changed(_id(request), "changed")
        return no_store_response(changed.as_dict())

    async def _remove(self, request: web.Request) -> web.Response:
        await self._app_admin.remove(_id(request))
        await self._changed(_id(request), "removed")
        return web.Response(status=204)

    async def _rotate(self, request: web.Request) -> web.Response:
        secret = await self._app_admin.rotate_secret(_id(request))
        await self._changed(_id(request), "secret rotated")
        return no_store_response({"api_secret": secret})

    async def _changed(self, app_id: str, what: str) -> None:
        log.info("app changed", app=app_id, change=what)
        await self._refresh()


def _id(request: web.Request) -> str:
    return request.match_info["id"]
