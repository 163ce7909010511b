"""Endpoints that open and end a phone's sessions."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

from broker.apps.errors import UnknownApp
from broker.apps.model import DEFAULT_APP
from broker.apps.origins import authorize_origin
from broker.apps.ports import Apps
from broker.identity.errors import InvalidProof, ProviderBlockedUser
from broker.infrastructure.api.endpoint import Endpoint
from broker.infrastructure.api.rate_limit import RateLimiter
from broker.infrastructure.api.schema import AppIdField, Count, RequestModel, ResponseModel
from broker.infrastructure.clock import Clock, seconds_until
from broker.sessions.authentication import NEW_PHONE, PHONE
from broker.sessions.limits import SessionLimits
from broker.sessions.model import OpenedSession, Session
from broker.sessions.service import SessionService

JsCodeField = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class OpenSessionRequest(RequestModel):
    app: AppIdField = DEFAULT_APP
    js_code: JsCodeField


class SessionResponse(ResponseModel):
    """A new session.  `skey` is its secret, and is sent only here."""

    id: str
    skey: str
    expires_in: Count


class EndedResponse(ResponseModel):
    """The number of sessions that have ended."""

    ended: Count


def session_response(opened: OpenedSession, now: float) -> SessionResponse:
    return {
        "id": opened.session.id,
        "skey": opened.skey,
        "expires_in": seconds_until(opened.session.expires_at, now),
    }


class SessionPhoneAPI:
    """Opens and ends sessions for phones."""

    def __init__(
        self,
        *,
        session_service: SessionService,
        apps: Apps,
        limits: SessionLimits,
        failures: RateLimiter,
        clock: Clock,
    ) -> None:
        self._session_service = session_service
        self._apps = apps
        self._limits = limits
        self._failures = failures
        self._clock = clock

    async def open(self, address: str, body: OpenSessionRequest) -> SessionResponse:
        app = authorize_origin(self._apps, body.app, None)
        with self._failures.counting_failures(address):
            async with self._limits.opening(address):
                opened = await self._session_service.open(app, body.js_code)
        return session_response(opened, self._clock())

    async def end(self, session: Session) -> EndedResponse:
        return {"ended": await self._session_service.end(session)}

    async def end_all(self, session: Session) -> EndedResponse:
        return {"ended": await self._session_service.end_all(session.phone)}


ENDPOINTS = [
    Endpoint(
        "POST",
        "/phone/session",
        SessionPhoneAPI.open,
        role="phone",
        auth=NEW_PHONE,
        operation_id="openSession",
        summary="Log a phone in",
        request=OpenSessionRequest,
        response=SessionResponse,
        errors=(UnknownApp, InvalidProof, ProviderBlockedUser),
    ),
    Endpoint(
        "DELETE",
        "/phone/session",
        SessionPhoneAPI.end,
        role="phone",
        auth=PHONE,
        operation_id="endOwnSession",
        summary="Log this phone out",
        response=EndedResponse,
    ),
    Endpoint(
        "DELETE",
        "/phone/sessions",
        SessionPhoneAPI.end_all,
        role="phone",
        auth=PHONE,
        operation_id="endOwnSessions",
        summary="Log out all phones of this user in the app",
        response=EndedResponse,
    ),
]
