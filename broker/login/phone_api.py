"""The acts of a phone: scan, confirm and deny, over HTTP and on Socket.IO."""

from __future__ import annotations

from broker.identity.errors import UnregisteredUser, UserBlocked
from broker.infrastructure.api.endpoint import Endpoint
from broker.infrastructure.api.event import Event
from broker.infrastructure.api.schema import (
    Count,
    LoginIdField,
    RequestModel,
    ResponseModel,
    SceneField,
)
from broker.infrastructure.clock import Clock, seconds_until
from broker.login.errors import (
    AlreadyScanned,
    LoginExpired,
    NotAllowed,
    UnknownLogin,
    UnknownScene,
    WrongPhone,
)
from broker.login.model import State
from broker.login.service import LoginService
from broker.sessions.authentication import PHONE, PHONE_NAMESPACE
from broker.sessions.model import Session


class ScanRequest(RequestModel):
    scene: SceneField


class DecisionRequest(RequestModel):
    login_id: LoginIdField


class AppView(ResponseModel):
    """scopes: what the app gets to know, such as `profile`."""

    id: str
    name: str
    scopes: list[str]


class BrowserView(ResponseModel):
    """The browser that began the login, `since` seconds ago."""

    ip: str
    user_agent: str
    since: Count


class ScanResponse(ResponseModel):
    """The login that the phone shows before the user confirms."""

    login_id: str
    state: State
    expires_in: Count
    app: AppView
    browser: BrowserView


class DecisionResponse(ResponseModel):
    login_id: str
    state: State


class LoginPhoneAPI:
    """Scans, confirms and denies logins for phones."""

    def __init__(self, *, login_service: LoginService, clock: Clock) -> None:
        self._login_service = login_service
        self._clock = clock

    async def scan(self, session: Session, body: ScanRequest) -> ScanResponse:
        login, app = await self._login_service.scan(body.scene, session.phone)
        now = self._clock()
        return {
            "login_id": login.id,
            "state": login.state,
            "expires_in": seconds_until(login.expires_at, now),
            "app": {
                "id": app.id,
                "name": app.name,
                "scopes": list(app.scopes if login.scope is None else login.scope),
            },
            "browser": {
                "ip": login.browser.ip,
                "user_agent": login.browser.user_agent,
                "since": max(0, int(now - login.began_at)),
            },
        }

    async def confirm(self, session: Session, body: DecisionRequest) -> DecisionResponse:
        login = await self._login_service.confirm(body.login_id, session.phone)
        # When a phone repeats its confirm, the browser may have redeemed the login already.
        return {"login_id": login.id, "state": State.CONFIRMED}

    async def deny(self, session: Session, body: DecisionRequest) -> DecisionResponse:
        login = await self._login_service.deny(body.login_id, session.phone)
        return {"login_id": login.id, "state": login.state}


DECISION_ERRORS = (UnknownLogin, WrongPhone, NotAllowed, LoginExpired)

ENDPOINTS = [
    Endpoint(
        "POST",
        "/phone/scan",
        LoginPhoneAPI.scan,
        role="phone",
        auth=PHONE,
        summary="Scan a code; the response is what the user compares before confirming",
        request=ScanRequest,
        response=ScanResponse,
        errors=(UnknownScene, AlreadyScanned, NotAllowed, LoginExpired),
    ),
    Endpoint(
        "POST",
        "/phone/confirm",
        LoginPhoneAPI.confirm,
        role="phone",
        auth=PHONE,
        summary="Log the browser in",
        request=DecisionRequest,
        response=DecisionResponse,
        errors=(*DECISION_ERRORS, UserBlocked, UnregisteredUser),
    ),
    Endpoint(
        "POST",
        "/phone/deny",
        LoginPhoneAPI.deny,
        role="phone",
        auth=PHONE,
        summary="Refuse the browser's login",
        request=DecisionRequest,
        response=DecisionResponse,
        errors=DECISION_ERRORS,
    ),
]

SOCKET_EVENTS = [
    Event(
        PHONE_NAMESPACE,
        "scan",
        LoginPhoneAPI.scan,
        request=ScanRequest,
        response=ScanResponse,
    ),
    Event(
        PHONE_NAMESPACE,
        "confirm",
        LoginPhoneAPI.confirm,
        request=DecisionRequest,
        response=DecisionResponse,
    ),
    Event(
        PHONE_NAMESPACE,
        "deny",
        LoginPhoneAPI.deny,
        request=DecisionRequest,
        response=DecisionResponse,
    ),
]
