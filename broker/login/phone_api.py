"""The acts of a phone: scan, confirm and deny, over HTTP and on Socket.IO."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import Field, StringConstraints

from broker.identity.errors import UnregisteredUser, UserBlocked
from broker.identity.model import Identity
from broker.infrastructure.api.endpoint import Endpoint
from broker.infrastructure.api.event import Event
from broker.infrastructure.api.rate_limit import RateLimiter
from broker.infrastructure.api.schema import (
    Count,
    LoginIdField,
    MatchField,
    RequestModel,
    ResponseModel,
    SceneField,
)
from broker.infrastructure.clock import Clock, seconds_until
from broker.login.errors import (
    AlreadyScanned,
    LoginDenied,
    LoginExpired,
    LoginRefused,
    NotAllowed,
    UnknownLogin,
    UnknownReport,
    UnknownScene,
    WrongMatch,
    WrongPhone,
)
from broker.login.match import MATCH, Match
from broker.login.model import Login, State
from broker.login.reports import LoginReporter
from broker.login.scanner import Scanner, ScanningPhone
from broker.login.service import LoginService
from broker.sessions.authentication import PHONE, PHONE_NAMESPACE
from broker.sessions.model import Session, person_key

FEATURES_MAX, LAUNCH_SCENE_MAX = 16, 99_999

REPORTS_PER_MINUTE = 30
"""Reports that one person may send per minute: each queries the database."""

FeatureField = Annotated[str, StringConstraints(min_length=1, max_length=32)]


class ScanRequest(RequestModel):
    """can: what the phone knows, such as `match`. how: WeChat's launch scene."""

    scene: SceneField
    can: list[FeatureField] = Field(default_factory=list, max_length=FEATURES_MAX)
    how: Annotated[int, Field(ge=0, le=LAUNCH_SCENE_MAX)] | None = None


class DecisionRequest(RequestModel):
    login_id: LoginIdField


class ConfirmRequest(DecisionRequest):
    """match: the number that the person chose."""

    match: MatchField | None = None


class AppView(ResponseModel):
    """scopes: what the app gets to know, such as `profile`."""

    id: str
    name: str
    scopes: list[str]


class BrowserView(ResponseModel):
    """The browser that began the login, `since` seconds ago.

    origin: of its page. known: whether this person has used it before, if that was looked up.
    """

    ip: str
    user_agent: str
    since: Count
    origin: NotRequired[str]
    known: NotRequired[bool]


class MatchView(ResponseModel):
    """choices: of a number; the browser shows one of them."""

    kind: Literal["number", "code"]
    choices: NotRequired[list[str]]


class ScanResponse(ResponseModel):
    """The login that the phone shows before the user confirms."""

    login_id: str
    state: State
    expires_in: Count
    app: AppView
    browser: BrowserView
    match: NotRequired[MatchView]


class DecisionResponse(ResponseModel):
    login_id: str
    state: State


class ConfirmResponse(DecisionResponse):
    """match: the digits to type in the browser within `expires_in` seconds."""

    match: NotRequired[str]
    expires_in: NotRequired[Count]


class ReportResponse(ResponseModel):
    """ended: the sign-in sessions of the login that ended."""

    ended: Count


class LoginPhoneAPI:
    """Scans, confirms, denies and reports logins for phones."""

    def __init__(
        self,
        *,
        login_service: LoginService,
        scanner: Scanner,
        reporter: LoginReporter,
        report_limit: RateLimiter,
        clock: Clock,
    ) -> None:
        self._login_service = login_service
        self._scanner = scanner
        self._reporter = reporter
        self._report_limit = report_limit
        self._clock = clock

    async def scan(self, session: Session, body: ScanRequest) -> ScanResponse:
        device = ScanningPhone(session.address, MATCH in body.can, body.how)
        login, app = await self._scanner.scan(body.scene, session.phone, device)
        response: ScanResponse = {
            "login_id": login.id,
            "state": login.state,
            "expires_in": seconds_until(login.expires_at, self._clock()),
            "app": {
                "id": app.id,
                "name": app.name,
                "scopes": list(app.scopes if login.scope is None else login.scope),
            },
            "browser": self._browser_view(login, session.phone.identity),
        }
        if login.match is not None:
            response["match"] = _match_view(login.match)
        return response

    def _browser_view(self, login: Login, identity: Identity) -> BrowserView:
        view: BrowserView = {
            "ip": login.browser.ip,
            "user_agent": login.browser.user_agent,
            "since": max(0, int(self._clock() - login.began_at)),
        }
        if login.origin:
            view["origin"] = login.origin
        is_known = login.is_known_to(identity)
        if is_known is not None:
            view["known"] = is_known
        return view

    async def confirm(self, session: Session, body: ConfirmRequest) -> ConfirmResponse:
        login = await self._login_service.confirm(body.login_id, session.phone, body.match)
        if login.shows_digits and login.match is not None:
            return {
                "login_id": login.id,
                "state": login.state,
                "match": login.match.answer,
                "expires_in": seconds_until(login.expires_at, self._clock()),
            }
        # When a phone repeats its confirm, the browser may have redeemed the login already.
        return {"login_id": login.id, "state": State.CONFIRMED}

    async def deny(self, session: Session, body: DecisionRequest) -> DecisionResponse:
        login = await self._login_service.deny(body.login_id, session.phone)
        return {"login_id": login.id, "state": login.state}

    async def report(self, session: Session, body: DecisionRequest) -> ReportResponse:
        self._report_limit.count(person_key(session.phone))
        return {"ended": await self._reporter.report(body.login_id, session.phone)}


def _match_view(match: Match) -> MatchView:
    """Return what the phone shows at the scan: for a code only that there will be one."""
    if match.kind == "code":
        return {"kind": "code"}
    return {"kind": "number", "choices": list(match.choices)}


DECISION_ERRORS = (UnknownLogin, WrongPhone, NotAllowed, LoginExpired)

ENDPOINTS = [
    Endpoint(
        "POST",
        "/phone/scan",
        LoginPhoneAPI.scan,
        role="phone",
        auth=PHONE,
        operation_id="scanCode",
        summary="Scan a code; the response is what the user compares before confirming",
        request=ScanRequest,
        response=ScanResponse,
        errors=(UnknownScene, AlreadyScanned, LoginRefused, NotAllowed, LoginExpired),
    ),
    Endpoint(
        "POST",
        "/phone/confirm",
        LoginPhoneAPI.confirm,
        role="phone",
        auth=PHONE,
        operation_id="confirmLogin",
        summary="Log the browser in",
        request=ConfirmRequest,
        response=ConfirmResponse,
        errors=(*DECISION_ERRORS, WrongMatch, LoginDenied, UserBlocked, UnregisteredUser),
    ),
    Endpoint(
        "POST",
        "/phone/deny",
        LoginPhoneAPI.deny,
        role="phone",
        auth=PHONE,
        operation_id="denyLogin",
        summary="Refuse the browser's login",
        request=DecisionRequest,
        response=DecisionResponse,
        errors=DECISION_ERRORS,
    ),
    Endpoint(
        "POST",
        "/phone/report",
        LoginPhoneAPI.report,
        role="phone",
        auth=PHONE,
        operation_id="reportLogin",
        summary="Report a login that the user did not intend, and end its sessions",
        request=DecisionRequest,
        response=ReportResponse,
        errors=(UnknownReport,),
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
        request=ConfirmRequest,
        response=ConfirmResponse,
    ),
    Event(
        PHONE_NAMESPACE,
        "deny",
        LoginPhoneAPI.deny,
        request=DecisionRequest,
        response=DecisionResponse,
    ),
]
