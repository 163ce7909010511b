"""Sessions for an app's own servers: endpoints below `/sessions`.

The server of an app authenticates with the app's secret or the admin token.  Another app's
session has the same answer as an unknown session.  CORS headers are never sent: no page uses
these endpoints.
"""

from __future__ import annotations

from typing import Annotated, Any, NotRequired

from pydantic import StringConstraints

from broker.apps.authentication import SERVER, AppScopedRequest
from broker.apps.model import App
from broker.identity.errors import InvalidProof, ProviderBlockedUser, UserDataDecryptionFailed
from broker.identity.model import Identity, Phone
from broker.infrastructure.api.endpoint import Endpoint
from broker.infrastructure.api.schema import Count, OpenidField, ResponseModel
from broker.infrastructure.clock import Clock, seconds_until
from broker.sessions.authentication import SessionCredentials
from broker.sessions.errors import InvalidSession, SigningUnsupported
from broker.sessions.limits import SessionLimits
from broker.sessions.model import Session
from broker.sessions.phone_api import (
    EndedResponse,
    JsCodeField,
    SessionResponse,
    session_response,
)
from broker.sessions.service import SessionService

SignatureField = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]

UserDataField = Annotated[str, StringConstraints(min_length=1, max_length=16_384)]

IvField = Annotated[str, StringConstraints(min_length=24, max_length=24)]


class OpenAppSessionRequest(AppScopedRequest):
    js_code: JsCodeField


class AppSessionRequest(AppScopedRequest, SessionCredentials):
    """A session that a phone has sent to the app's own server."""


class VerifyRequest(AppSessionRequest):
    raw_data: UserDataField
    signature: SignatureField


class DecryptRequest(AppSessionRequest):
    encrypted_data: UserDataField
    iv: IvField


class EndAllRequest(AppScopedRequest):
    openid: OpenidField


class UserView(ResponseModel):
    """The user of a session.  `subject` is the token's `sub`, if the directory knows the user."""

    app: str
    openid: str
    unionid: NotRequired[str]
    subject: NotRequired[str]


class OpenedSessionResponse(SessionResponse, UserView):
    """A new session and its user."""


class CheckedSessionResponse(UserView):
    expires_in: Count


class VerifyResponse(ResponseModel):
    valid: bool


class DecryptResponse(ResponseModel):
    data: dict[str, Any]


class SessionServerAPI:
    """Opens, checks and ends sessions for an app's own servers."""

    def __init__(
        self, *, session_service: SessionService, limits: SessionLimits, clock: Clock
    ) -> None:
        self._session_service = session_service
        self._limits = limits
        self._clock = clock

    async def open(self, app: App, body: OpenAppSessionRequest) -> OpenedSessionResponse:
        async with self._limits.opening_for_app(app):
            opened = await self._session_service.open(app, body.js_code)
        user = await self._user_of(opened.session)
        return {**session_response(opened, self._clock()), **user}

    async def check(self, app: App, body: AppSessionRequest) -> CheckedSessionResponse:
        session = await self._session_service.check(body.token(), app)
        expires_in = seconds_until(session.expires_at, self._clock())
        return {"expires_in": expires_in, **await self._user_of(session)}

    async def verify(self, app: App, body: VerifyRequest) -> VerifyResponse:
        valid = await self._session_service.is_signed(
            body.token(), app, body.raw_data, body.signature
        )
        return {"valid": valid}

    async def decrypt(self, app: App, body: DecryptRequest) -> DecryptResponse:
        data = await self._session_service.decrypt(body.token(), app, body.encrypted_data, body.iv)
        return {"data": {**data}}

    async def end(self, app: App, body: AppSessionRequest) -> EndedResponse:
        session = await self._session_service.check(body.token(), app)
        return {"ended": await self._session_service.end(session)}

    async def end_all(self, app: App, body: EndAllRequest) -> EndedResponse:
        phone = Phone(app.id, Identity(app.provider, body.openid))
        return {"ended": await self._session_service.end_all(phone)}

    async def _user_of(self, session: Session) -> UserView:
        identity = session.phone.identity
        user: UserView = {"app": session.phone.app, "openid": identity.id}
        if identity.unionid is not None:
            user["unionid"] = identity.unionid
        subject = await self._session_service.subject(session)
        if subject is not None:
            user["subject"] = subject
        return user


ENDPOINTS = [
    Endpoint(
        "POST",
        "/sessions",
        SessionServerAPI.open,
        role="sessions",
        auth=SERVER,
        operation_id="openAppSession",
        summary="Log a phone in",
        request=OpenAppSessionRequest,
        response=OpenedSessionResponse,
        errors=(InvalidProof, ProviderBlockedUser),
    ),
    Endpoint(
        "POST",
        "/sessions/check",
        SessionServerAPI.check,
        role="sessions",
        auth=SERVER,
        operation_id="checkSession",
        summary="Return the user of a session; counts as a use",
        request=AppSessionRequest,
        response=CheckedSessionResponse,
        errors=(InvalidSession,),
    ),
    Endpoint(
        "POST",
        "/sessions/verify",
        SessionServerAPI.verify,
        role="sessions",
        auth=SERVER,
        operation_id="verifySignature",
        summary="Check whether the phone's mini program signed raw_data",
        request=VerifyRequest,
        response=VerifyResponse,
        errors=(InvalidSession, SigningUnsupported),
    ),
    Endpoint(
        "POST",
        "/sessions/decrypt",
        SessionServerAPI.decrypt,
        role="sessions",
        auth=SERVER,
        operation_id="decryptData",
        summary="Decrypt data that the provider encrypted for the phone",
        request=DecryptRequest,
        response=DecryptResponse,
        errors=(InvalidSession, SigningUnsupported, UserDataDecryptionFailed),
    ),
    Endpoint(
        "POST",
        "/sessions/end",
        SessionServerAPI.end,
        role="sessions",
        auth=SERVER,
        operation_id="endAppSession",
        summary="End a session",
        request=AppSessionRequest,
        response=EndedResponse,
        errors=(InvalidSession,),
    ),
    Endpoint(
        "POST",
        "/sessions/end-all",
        SessionServerAPI.end_all,
        role="sessions",
        auth=SERVER,
        operation_id="endAppSessions",
        summary="End all sessions of a user in the app",
        request=EndAllRequest,
        response=EndedResponse,
    ),
]
