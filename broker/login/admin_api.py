"""The logins that wait, over HTTP at the admin port. No response has a scene or a secret."""

from __future__ import annotations

from typing import Annotated, NotRequired

from pydantic import StringConstraints

from broker.infrastructure.api.authorization import OPERATOR
from broker.infrastructure.api.endpoint import ADMIN, QUERY, Endpoint
from broker.infrastructure.api.schema import Count, LimitField, RequestModel, ResponseModel, UrlSafe
from broker.infrastructure.clock import Clock, seconds_until
from broker.login.errors import LoginNotOpen, UnknownLogin
from broker.login.lister import LoginLister
from broker.login.model import OPEN, Login
from broker.login.reader import UNKNOWN_VERSION, LoginReader
from broker.login.service import LoginService


class LoginListQuery(RequestModel):
    """Selects at most `limit` logins in the order of their ids, from the first one after `after`.

    A page with `state` may have fewer logins than `limit` although there are more.
    """

    app: Annotated[str, StringConstraints(max_length=64)] = ""
    state: Annotated[str, StringConstraints(pattern="^(pending|scanned|confirmed)?$")] = ""
    after: Annotated[str, StringConstraints(pattern=UrlSafe, max_length=64)] | None = None
    limit: LimitField = "100"


class WaitingLoginView(ResponseModel):
    """A login whose browser waits.

    since: when it began, Unix time in seconds.  expires_in: seconds.
    ip, user_agent: of the browser.
    """

    login_id: str
    app: str
    state: str
    since: float
    expires_in: Count
    ip: str
    user_agent: str
    instance: str


class LoginListResponse(ResponseModel):
    """total: all browsers that wait.  missing: the instances that did not answer within 1 s.

    next: the `after` of the next page, if there may be more logins.
    """

    logins: list[WaitingLoginView]
    total: Count
    missing: list[str]
    next: NotRequired[str]


class LoginsAdminAPI:
    def __init__(
        self,
        *,
        lister: LoginLister,
        reader: LoginReader,
        login_service: LoginService,
        clock: Clock,
    ) -> None:
        self._lister = lister
        self._reader = reader
        self._login_service = login_service
        self._clock = clock

    async def list(self, query: LoginListQuery) -> LoginListResponse:
        limit = int(query.limit)
        found = await self._lister.find(app=query.app or None, after=query.after or "", limit=limit)
        logins = await self._reader.get_changed(dict.fromkeys(found.ids, UNKNOWN_VERSION))
        page: LoginListResponse = {
            "logins": [
                self._view(login)
                for login in logins.values()
                if login is not None
                and login.state in OPEN
                and query.state in ("", login.state.value)
            ],
            "total": found.total,
            "missing": [*found.missing],
        }
        return {**page, "next": found.ids[-1]} if len(found.ids) == limit else page

    async def end(self, id: str) -> None:
        """Raises LoginNotOpen."""
        try:
            is_ended = await self._login_service.end(id)
        except UnknownLogin:
            is_ended = False
        if not is_ended:
            raise LoginNotOpen

    def _view(self, login: Login) -> WaitingLoginView:
        return {
            "login_id": login.id,
            "app": login.app,
            "state": login.state.value,
            "since": login.began_at,
            "expires_in": seconds_until(login.expires_at, self._clock()),
            "ip": login.browser.ip,
            "user_agent": login.browser.user_agent,
            "instance": login.instance,
        }


ENDPOINTS = [
    Endpoint(
        "GET",
        "/logins",
        LoginsAdminAPI.list,
        role=ADMIN,
        auth=OPERATOR,
        operation_id="listLogins",
        summary="List the logins that wait at all instances",
        request=LoginListQuery,
        request_in=QUERY,
        response=LoginListResponse,
    ),
    Endpoint(
        "DELETE",
        "/logins/{id:[A-Za-z0-9_-]+}",
        LoginsAdminAPI.end,
        role=ADMIN,
        auth=OPERATOR,
        operation_id="endLogin",
        summary="End a login; its browser gets `login-expired`",
        status=204,
        errors=(LoginNotOpen,),
    ),
]
