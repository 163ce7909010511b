"""Administration of users over HTTP at the admin port, as by `scan-login user`."""

from __future__ import annotations

from typing import Annotated

import structlog
from aiohttp import web
from pydantic import StringConstraints

from broker.infrastructure.api.authorization import Authorization
from broker.infrastructure.api.bodies import read_object
from broker.infrastructure.api.responses import no_store_response
from broker.infrastructure.api.schema import RequestModel, parse
from broker.users.ports import IdentityAdmin, UserAdmin

log = structlog.get_logger()


class UsersAdminAPI:
    def __init__(
        self, *, user_admin: UserAdmin, identity_admin: IdentityAdmin, authorize: Authorization
    ) -> None:
        self._user_admin = user_admin
        self._identity_admin = identity_admin
        self._authorize = authorize

    def routes(self) -> list[web.RouteDef]:
        one = "/users/{id}"
        return [
            web.get("/users", self._authorize(self._list)),
            web.post("/users", self._authorize(self._add)),
            web.get(one, self._authorize(self._get)),
            web.patch(one, self._authorize(self._change)),
            web.delete(one, self._authorize(self._remove)),
            web.post(f"{one}/link", self._authorize(self._link)),
            web.post(f"{one}/unlink", self._authorize(self._unlink)),
            web.post(f"{one}/invite", self._authorize(self._invite)),
        ]

    async def _list(self, request: web.Request) -> web.Response:
        """Return one page.  If there may be more, `next` is the `after` of the next page."""
        asked = parse(UserListQuery, request.query)
        limit = int(asked.limit)
        users = await self._user_admin.list(after=asked.after, limit=limit)
        body: dict[str, object] = {"users": [one.as_dict() for one in users]}
        return no_store_response({**body, "next": users[-1].id} if len(users) == limit else body)

    async def _get(self, request: web.Request) -> web.Response:
        return no_store_response((await self._user_admin.get(_id(request))).as_dict())

    async def _add(self, request: web.Request) -> web.Response:
        added = await self._user_admin.add(await read_object(request))
        _note(added.id, "added")
        return no_store_response(added.as_dict(), status=201)

    async def _change(self, request: web.Request) -> web.Response:
        changed = await self._user_admin.update(_id(request), await read_object(request))
        _note(changed.id, "changed")
        return no_store_response(changed.as_dict())

    async def _remove(self, request: web.Request) -> web.Response:
        await self._user_admin.remove(_id(request))
        _note(_id(request), "removed")
        return web.Response(status=204)

    async def _link(self, request: web.Request) -> web.Response:
        linked = await self._identity_admin.link(_id(request), await read_object(request))
        _note(linked.id, "linked")
        return no_store_response(linked.as_dict())

    async def _unlink(self, request: web.Request) -> web.Response:
        unlinked = await self._identity_admin.unlink(_id(request), await read_object(request))
        _note(unlinked.id, "unlinked")
        return no_store_response(unlinked.as_dict())

    async def _invite(self, request: web.Request) -> web.Response:
        invitation = await self._identity_admin.invite(_id(request), await read_object(request))
        _note(_id(request), "invited")
        return no_store_response(
            {"invitation": invitation.secret, "expires_in": invitation.expires_in}, status=201
        )


def _note(user_id: str, what: str) -> None:
    log.info("user changed", user=user_id, change=what)


def _id(request: web.Request) -> str:
    return request.match_info["id"]


class UserListQuery(RequestModel):
    """Selects 1 to 999 users, from the first one after `after`."""

    after: Annotated[str, StringConstraints(pattern=r"^[ -~]*$", max_length=64)] = ""
    limit: Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,2}$")] = "100"
