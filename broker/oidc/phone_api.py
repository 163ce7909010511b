"""Endpoints with which phones list and end the sign-ins of their person, in all apps."""

from __future__ import annotations

from typing import Protocol

from broker.apps.model import App
from broker.identity.errors import UserBlocked
from broker.infrastructure.api.endpoint import Endpoint
from broker.infrastructure.api.schema import Count, ResponseModel
from broker.oidc.sign_ins import SignInService, SubjectSignIn
from broker.sessions.authentication import PHONE
from broker.sessions.model import Session

REASON = "phone"


class SignInView(ResponseModel):
    """A sign-in.  Times are Unix times in seconds.

    apps: names of the apps that use it.
    ip, user_agent: of the browser; empty if the sign-in session has ended.
    offline: whether the sign-in session has ended, but apps still have refresh tokens.
    """

    sid: str
    apps: list[str]
    ip: str
    user_agent: str
    began_at: Count
    used_at: Count
    offline: bool


class SignInsResponse(ResponseModel):
    """The sign-ins of a person, the oldest first."""

    signins: list[SignInView]


class EndedSignInsResponse(ResponseModel):
    """The number of sign-ins that have ended."""

    ended: Count


class Subjects(Protocol):
    """Knows the person of a phone's session."""

    async def subject(self, session: Session) -> str | None: ...


class AppNames(Protocol):
    """Finds apps."""

    def get(self, app_id: str) -> App | None: ...


class SignInsPhoneAPI:
    """Lists and ends sign-ins for phones.  A phone reaches only its person's."""

    def __init__(self, *, subjects: Subjects, sign_ins: SignInService, apps: AppNames) -> None:
        self._subjects = subjects
        self._sign_ins = sign_ins
        self._apps = apps

    async def list(self, session: Session) -> SignInsResponse:
        subject = await self._subjects.subject(session)
        found = [] if subject is None else await self._sign_ins.of_subject(subject)
        return {"signins": [await self._view(one) for one in found]}

    async def end(self, session: Session, sid: str) -> EndedSignInsResponse:
        subject = await self._subjects.subject(session)
        if subject is None:
            return {"ended": 0}
        # An end is remembered for a while, so only existing ones are ended.
        sids = {one.sid for one in await self._sign_ins.of_subject(subject)}
        if sid not in sids:
            return {"ended": 0}
        ended = await self._sign_ins.end(subject, sid, offline_too=True, reason=REASON)
        return {"ended": ended}

    async def end_all(self, session: Session) -> EndedSignInsResponse:
        subject = await self._subjects.subject(session)
        ended = 0 if subject is None else await self._sign_ins.end_all(subject, reason=REASON)
        return {"ended": ended}

    async def _view(self, one: SubjectSignIn) -> SignInView:
        return {
            "sid": one.sid,
            "apps": [self._name(app_id) for app_id in one.apps],
            "ip": "" if one.sign_in is None else one.sign_in.ip,
            "user_agent": "" if one.sign_in is None else one.sign_in.user_agent,
            "began_at": int(one.began_at),
            "used_at": int(one.used_at),
            "offline": one.sign_in is None,
        }

    def _name(self, app_id: str) -> str:
        app = self._apps.get(app_id)
        return app_id if app is None else app.name


ENDPOINTS = [
    Endpoint(
        "GET",
        "/phone/signins",
        SignInsPhoneAPI.list,
        role="phone",
        auth=PHONE,
        operation_id="listOwnSignIns",
        summary="List the sign-ins of this user, in all apps",
        response=SignInsResponse,
        errors=(UserBlocked,),
    ),
    Endpoint(
        "DELETE",
        "/phone/signins/{sid:[A-Za-z0-9_-]+}",
        SignInsPhoneAPI.end,
        role="phone",
        auth=PHONE,
        operation_id="endOwnSignIn",
        summary="End a sign-in of this user: the apps that use it are notified",
        response=EndedSignInsResponse,
        errors=(UserBlocked,),
    ),
    Endpoint(
        "DELETE",
        "/phone/signins",
        SignInsPhoneAPI.end_all,
        role="phone",
        auth=PHONE,
        operation_id="endOwnSignIns",
        summary="End all sign-ins of this user, in all apps",
        response=EndedSignInsResponse,
        errors=(UserBlocked,),
    ),
]
