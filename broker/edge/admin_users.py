"""Users over HTTP, on the operator's port: the same as `scan-login user`, for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from broker.edge.admin import Guard, named_fields
from broker.edge.wire import Page, private, read

if TYPE_CHECKING:  # whoever does not serve need not load a database's library
    from broker.records.user_book import UserBook

log = structlog.get_logger()


class UserAdminEdge:
    def __init__(self, *, book: UserBook, guard: Guard) -> None:
        self._book = book
        self._guarded = guard

    def routes(self) -> list[web.RouteDef]:
        one = "/users/{id}"
        return [
            web.get("/users", self._guarded(self._list)),
            web.post("/users", self._guarded(self._add)),
            web.get(one, self._guarded(self._get)),
            web.patch(one, self._guarded(self._change)),
            web.delete(one, self._guarded(self._remove)),
            web.post(f"{one}/link", self._guarded(self._link)),
            web.post(f"{one}/unlink", self._guarded(self._unlink)),
            web.post(f"{one}/invite", self._guarded(self._invite)),
        ]

    async def _list(self, request: web.Request) -> web.Response:
        """One page.  `next`, where there may be more: the `after` of the following one."""
        asked = read(Page, request.query)
        limit = int(asked.limit)
        users = await self._book.list(after=asked.after, limit=limit)
        body: dict[str, object] = {"users": [one.shown() for one in users]}
        return private({**body, "next": users[-1].id} if len(users) == limit else body)

    async def _get(self, request: web.Request) -> web.Response:
        return private((await self._book.get(_id(request))).shown())

    async def _add(self, request: web.Request) -> web.Response:
        added = await self._book.add(await named_fields(request))
        _note(added.id, "added")
        return private(added.shown(), status=201)

    async def _change(self, request: web.Request) -> web.Response:
        changed = await self._book.change(_id(request), await named_fields(request))
        _note(changed.id, "changed")
        return private(changed.shown())

    async def _remove(self, request: web.Request) -> web.Response:
        await self._book.remove(_id(request))
        _note(_id(request), "removed")
        return web.Response(status=204)

    async def _link(self, request: web.Request) -> web.Response:
        linked = await self._book.link(_id(request), await named_fields(request))
        _note(linked.id, "linked")
        return private(linked.shown())

    async def _unlink(self, request: web.Request) -> web.Response:
        unlinked = await self._book.unlink(_id(request), await named_fields(request))
        _note(unlinked.id, "unlinked")
        return private(unlinked.shown())

    async def _invite(self, request: web.Request) -> web.Response:
        invitation = await self._book.invite(_id(request), await named_fields(request))
        _note(_id(request), "invited")
        return private(
            {"invitation": invitation.secret, "expires_in": invitation.expires_in}, status=201
        )


def _note(user_id: str, what: str) -> None:
    log.info("a user was changed over the admin port", user=user_id, change=what)


def _id(request: web.Request) -> str:
    return request.match_info["id"]
