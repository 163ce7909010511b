"""The sessions of a person, over HTTP at the admin port. No response has an `skey`."""

from __future__ import annotations

from typing import Annotated, NotRequired

from pydantic import StringConstraints

from broker.apps.errors import AppNotFound
from broker.apps.ports import Apps
from broker.identity.model import Identity, Phone
from broker.infrastructure.api.authorization import OPERATOR
from broker.infrastructure.api.endpoint import ADMIN, QUERY, Endpoint
from broker.infrastructure.api.schema import (
    AppIdField,
    Count,
    RequestModel,
    ResponseModel,
)
from broker.infrastructure.clock import Clock, seconds_until
from broker.sessions.errors import SessionNotFound
from broker.sessions.model import Session
from broker.sessions.service import SessionService

PersonField = Annotated[str, StringConstraints(pattern=r"^[^\x00]+$", max_length=128)]


class SessionListQuery(RequestModel):
    """openid: of the person in the app."""

    app: AppIdField
    openid: PersonField


class SessionView(ResponseModel):
    """subject: the token's `sub`, if the directory knows the person."""

    id: str
    app: str
    openid: str
    subject: NotRequired[str]
    expires_in: Count


class SessionListResponse(ResponseModel):
    """At most 20 sessions, those that end first at first."""

    sessions: list[SessionView]


class SessionsAdminAPI:
    def __init__(self, *, session_service: SessionService, apps: Apps, clock: Clock) -> None:
        self._session_service = session_service
        self._apps = apps
        self._clock = clock

    async def list(self, query: SessionListQuery) -> SessionListResponse:
        """Raises AppNotFound."""
        app = self._apps.get(query.app)
        if app is None:
            raise AppNotFound
        phone = Phone(app.id, Identity(app.provider, query.openid))
        found = await self._session_service.of_person(phone)
        subject = await self._session_service.subject(found[0]) if found else None
        return {"sessions": [self._view(session, subject) for session in found]}

    async def end(self, id: str) -> None:
        """Raises SessionNotFound."""
        session = await self._session_service.find(id)
        if session is None or not await self._session_service.end(session):
            raise SessionNotFound

    def _view(self, session: Session, subject: str | None) -> SessionView:
        view: SessionView = {
            "id": session.id,
            "app": session.phone.app,
            "openid": session.phone.identity.id,
            "expires_in": seconds_until(session.expires_at, self._clock()),
        }
        return view if subject is None else {**view, "subject": subject}


ENDPOINTS = [
    Endpoint(
        "GET",
        "/sessions",
        SessionsAdminAPI.list,
        role=ADMIN,
        auth=OPERATOR,
        operation_id="listSessions",
        summary="List the sessions of a person in an app",
        request=SessionListQuery,
        request_in=QUERY,
        response=SessionListResponse,
        errors=(AppNotFound,),
    ),
    Endpoint(
        "DELETE",
        "/sessions/{id:[A-Za-z0-9_-]+}",
        SessionsAdminAPI.end,
        role=ADMIN,
        auth=OPERATOR,
        operation_id="endSession",
        summary="End a session; its tunnels close",
        status=204,
        errors=(SessionNotFound,),
    ),
]
