"""The sign-ins of a subject, over HTTP at the admin port."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

from broker.infrastructure.api.authorization import OPERATOR
from broker.infrastructure.api.endpoint import ADMIN, QUERY, Endpoint
from broker.infrastructure.api.schema import RequestModel, ResponseModel
from broker.oidc.errors import SignInNotFound
from broker.oidc.sign_ins import SignInService, SubjectSignIn

REASON = "admin"


class SubjectQuery(RequestModel):
    subject: Annotated[str, StringConstraints(pattern=r"^[^\x00]+$", max_length=256)]


class SubjectSignInView(ResponseModel):
    """A sign-in.  Times are Unix times in seconds.

    apps: ids of the apps that use it.
    ip, user_agent: of the browser; empty if the sign-in session has ended.
    offline: whether the sign-in session has ended, but apps still have refresh tokens.
    """

    sid: str
    apps: list[str]
    ip: str
    user_agent: str
    began_at: float
    used_at: float
    offline: bool


class SubjectSignInsResponse(ResponseModel):
    """The sign-ins of a subject, the oldest first."""

    signins: list[SubjectSignInView]


class SignInsAdminAPI:
    def __init__(self, *, sign_ins: SignInService) -> None:
        self._sign_ins = sign_ins

    async def list(self, query: SubjectQuery) -> SubjectSignInsResponse:
        found = await self._sign_ins.of_subject(query.subject)
        return {"signins": [_view(one) for one in found]}

    async def end(self, query: SubjectQuery, sid: str) -> None:
        """Raises SignInNotFound."""
        found = await self._sign_ins.of_subject(query.subject)
        if sid not in {one.sid for one in found}:  # an end is remembered for a while
            raise SignInNotFound
        await self._sign_ins.end(query.subject, sid, offline_too=True, reason=REASON)


def _view(one: SubjectSignIn) -> SubjectSignInView:
    return {
        "sid": one.sid,
        "apps": [*one.apps],
        "ip": "" if one.sign_in is None else one.sign_in.ip,
        "user_agent": "" if one.sign_in is None else one.sign_in.user_agent,
        "began_at": one.began_at,
        "used_at": one.used_at,
        "offline": one.sign_in is None,
    }


ENDPOINTS = [
    Endpoint(
        "GET",
        "/signins",
        SignInsAdminAPI.list,
        role=ADMIN,
        auth=OPERATOR,
        operation_id="listSignIns",
        summary="List the sign-ins of a subject",
        request=SubjectQuery,
        request_in=QUERY,
        response=SubjectSignInsResponse,
    ),
    Endpoint(
        "DELETE",
        "/signins/{sid:[A-Za-z0-9_-]+}",
        SignInsAdminAPI.end,
        role=ADMIN,
        auth=OPERATOR,
        operation_id="endSignIn",
        summary="End a sign-in; the apps that use it are notified",
        request=SubjectQuery,
        request_in=QUERY,
        status=204,
        errors=(SignInNotFound,),
    ),
]
