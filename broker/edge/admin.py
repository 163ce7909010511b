"""Apps over HTTP, on the operator's port: the same as `scan-login app`, for programs.

Secrets go in and never come out, but for an app's own, once, when it is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from broker.edge.wire import Handler, is_secret, json_body, private
from broker.errors import InvalidRequest, WrongAdminToken

if TYPE_CHECKING:  # whoever does not serve need not load a database's library
    from broker.records.apps import RecordedApps
    from broker.records.book import AppBook

log = structlog.get_logger()

Guard = Callable[[Handler], Handler]


def guarded_by(token: str) -> Guard:
    """Lets nobody pass who does not show the token."""

    def guard(handler: Handler) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
            right = is_secret(shown.strip(), token)
            if scheme.lower() != "bearer" or not right:
                raise WrongAdminToken
            return await handler(request)

        return guarded

    return guard


class AdminEdge:
    """apps: what this instance knows at once of its own changes."""

    def __init__(self, *, book: AppBook, apps: RecordedApps, guard: Guard) -> None:
        self._book = book
        self._apps = apps
        self._guarded = guard

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
        return private({"apps": [one.shown() for one in await self._book.list()]})

    async def _get(self, request: web.Request) -> web.Response:
        return private((await self._book.get(_id(request))).shown())

    async def _add(self, request: web.Request) -> web.Response:
        fields = {**await named_fields(request)}
        app_id = fields.pop("id", "")
        if not isinstance(app_id, str):
            raise InvalidRequest("id: want a string")
        added = await self._book.add(app_id, fields)
        await self._changed(app_id, "added")
        return private(added.shown(), status=201)

    async def _change(self, request: web.Request) -> web.Response:
        changed = await self._book.change(_id(request), await named_fields(request))
        await self._changed(_id(request), "changed")
        return private(changed.shown())

    async def _remove(self, request: web.Request) -> web.Response:
        await self._book.remove(_id(request))
        await self._changed(_id(request), "removed")
        return web.Response(status=204)

    async def _rotate(self, request: web.Request) -> web.Response:
        secret = await self._book.rotate_secret(_id(request))
        await self._changed(_id(request), "given a new secret")
        return private({"api_secret": secret})

    async def _changed(self, app_id: str, what: str) -> None:
        log.info("an app was changed over the admin port", app=app_id, change=what)
        await self._apps.refresh()


def _id(request: web.Request) -> str:
    return request.match_info["id"]


async def named_fields(request: web.Request) -> Mapping[str, object]:
    """The body, an object; none at all counts as an empty one.  Raises InvalidRequest."""
    body = await json_body(request) if request.body_exists else {}
    if not isinstance(body, Mapping):
        raise InvalidRequest("want an object with named fields")
    return body
