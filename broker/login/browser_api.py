"""The Socket.IO namespace `/login`: events that browsers send, and pushes to browsers."""

from __future__ import annotations

from typing import NamedTuple, NotRequired

from broker.apps.model import DEFAULT_APP
from broker.apps.origins import authorize_origin
from broker.apps.ports import Apps
from broker.infrastructure.api.client_address import Caller
from broker.infrastructure.api.event import Event, EventNamespace
from broker.infrastructure.api.rate_limit import RateLimiter
from broker.infrastructure.api.schema import (
    AppIdField,
    Count,
    LoginIdField,
    MatchField,
    RequestIdField,
    RequestModel,
    ResponseModel,
    SecretField,
    parse,
)
from broker.infrastructure.clock import Clock, seconds_until
from broker.infrastructure.coordination import Notice
from broker.infrastructure.transport.socketio.server import SocketIOServer
from broker.login.browser_fields import (
    BrowserApp,
    LinkResponse,
    ScannerFields,
    ScannerProfiles,
    app_fields,
    link_fields,
    match_fields,
    register_url_field,
    shows_scanner,
)
from broker.login.delivery import Redeemer, TokenResponse, token_response
from broker.login.device_codes import DeviceCodes
from broker.login.events import EVENTS, SCANNED_EVENT, UNREGISTERED_EVENT
from broker.login.limits import LoginLimits
from broker.login.lobby import Lobby
from broker.login.model import OPEN, Browser, Login, State
from broker.login.ports import KnownBrowsers
from broker.login.rules import WRONG_ANSWER_STATES
from broker.login.service import Handshake, LoginService
from broker.login.step_times import observe_delivery

NAMESPACE = "/login"


class ConnectRequest(RequestModel):
    """The payload of the CONNECT packet."""

    app: AppIdField = DEFAULT_APP


class BeginRequest(RequestModel):
    """request: the authorization request that the login is for."""

    request: RequestIdField = ""


class LoginSecretRequest(RequestModel):
    """A login and its browser's proof."""

    login_id: LoginIdField
    secret: SecretField


class BeginResponse(ResponseModel):
    """open_url: opens the phone app at the login."""

    login_id: str
    scene: str
    secret: str
    code_url: str
    open_url: NotRequired[str]
    app: BrowserApp
    expires_in: Count
    interval: Count


class ProveRequest(LoginSecretRequest):
    """match: the digits that the person typed."""

    match: MatchField


class LoginStateResponse(ResponseModel):
    login_id: str
    state: State


class ProveResponse(LoginStateResponse):
    """tries: the tries that are left after a wrong answer."""

    tries: NotRequired[Count]


class ResumeResponse(LoginStateResponse):
    """A login.

    unregistered: the phone's user has to register and confirm again.
    refused: the broker, and not the person, has denied the login.
    match: the number that the person chooses on the phone.
    `prove`: whether the person types the digits of the phone here; `tries` are left.
    scanner: the person who scanned, if the app shows it.
    """

    expires_in: Count
    match: NotRequired[str]
    prove: NotRequired[bool]
    tries: NotRequired[Count]
    unregistered: NotRequired[bool]
    register_url: NotRequired[str]
    refused: NotRequired[bool]
    scanner: NotRequired[ScannerFields]


class BrowserPeer(NamedTuple):
    """A browser's socket.

    app, incarnation: of the app for which it was accepted.
    cookies: of a page of the broker, if a policy asks for known browsers; else None.
    """

    app: str
    incarnation: str
    browser: Browser
    origin: str
    cookies: str | None


class LoginBrowserAPI:
    """Begins, resumes, redeems and cancels logins for browsers.

    interval: seconds between two polls, for a browser that loses its socket.
    known_browsers: None if no policy asks for them.
    verification_uri: the page for user codes.
    """

    def __init__(
        self,
        *,
        server: SocketIOServer,
        login_service: LoginService,
        redeemer: Redeemer,
        lobby: Lobby,
        apps: Apps,
        limits: LoginLimits,
        failures: RateLimiter,
        known_browsers: KnownBrowsers | None,
        device_codes: DeviceCodes,
        scanner_profiles: ScannerProfiles,
        verification_uri: str,
        clock: Clock,
        interval: int,
    ) -> None:
        self._server = server
        self._login_service = login_service
        self._redeemer = redeemer
        self._lobby = lobby
        self._apps = apps
        self._limits = limits
        self._failures = failures
        self._known_browsers = known_browsers
        self._device_codes = device_codes
        self._scanner_profiles = scanner_profiles
        self._verification_uri = verification_uri
        self._clock = clock
        self._interval = interval

    def namespace(self) -> EventNamespace[BrowserPeer]:
        return EventNamespace(NAMESPACE, authenticate=self.connect, on_disconnect=self._lobby.leave)

    async def push(self, sid: str, app_id: str, notice: Notice) -> None:
        """Send the event of the notice to the browser.  This is the lobby's `Push`."""
        event = EVENTS[notice.event]
        payload: dict[str, str | bool] = {"login_id": notice.id}
        if event.flag:
            payload[event.flag] = True
        name = event.sent_as or event.name
        app = self._apps.get(app_id)
        if app is not None and name == UNREGISTERED_EVENT:
            payload |= register_url_field(app)
        if name == SCANNED_EVENT and shows_scanner(app):
            payload["scanner"] = True
        await self._server.emit_to_all(name, payload, sids=[sid], namespace=NAMESPACE)

    async def connect(self, caller: Caller, auth: object) -> BrowserPeer:
        app = authorize_origin(self._apps, parse(ConnectRequest, auth).app, caller.origin)
        browser = Browser(caller.ip, caller.user_agent)
        origin = caller.origin or ""
        return BrowserPeer(app.id, app.incarnation, browser, origin, caller.cookies)

    async def begin(self, sid: str, peer: BrowserPeer, body: BeginRequest) -> BeginResponse:
        self._limits.count_begin(peer.browser.ip)
        new = await self._login_service.begin(
            peer.app,
            peer.browser,
            has_socket=True,
            incarnation=peer.incarnation,
            request=body.request,
            handshake=Handshake(peer.origin, await self._known_identities(peer)),
        )
        await self._abandon(self._lobby.wait(sid, new.login))
        response: BeginResponse = {
            "login_id": new.login.id,
            "scene": new.login.scene,
            "secret": new.secret,
            "code_url": new.code_url,
            "app": app_fields(new.app),
            "expires_in": seconds_until(new.login.expires_at, self._clock()),
            "interval": self._interval,
        }
        if new.open_url:
            response["open_url"] = new.open_url
        return response

    async def link(self, sid: str, peer: BrowserPeer, body: LoginSecretRequest) -> LinkResponse:
        """Return the short code of the login, for a person whose camera does not work."""
        with self._failures.counting_failures(peer.browser.ip):
            login = await self._login_service.require(body.login_id, body.secret, app=peer.app)
        return link_fields(await self._device_codes.issue(login), self._verification_uri)

    async def _known_identities(self, peer: BrowserPeer) -> tuple[str, ...] | None:
        if self._known_browsers is None or peer.cookies is None:
            return None
        return await self._known_browsers.identity_keys(peer.cookies)

    async def resume(self, sid: str, peer: BrowserPeer, body: LoginSecretRequest) -> ResumeResponse:
        with self._failures.counting_failures(peer.browser.ip):
            login = await self._login_service.resume(body.login_id, body.secret, app=peer.app)
        if login.state in OPEN:
            await self._abandon(self._lobby.wait(sid, login))
            # A notice that came after the read and before the wait was lost: read again.
            login = await self._login_service.get(login.id) or login
        response: ResumeResponse = {
            "login_id": login.id,
            "state": _state_for_browser(login, now=self._clock()),
            "expires_in": seconds_until(login.expires_at, self._clock()),
        }
        response.update(match_fields(login))  # type: ignore[typeddict-item]
        response.update(await self._scanner_profiles.fields(login))  # type: ignore[typeddict-item]
        if login.is_refused:
            response["refused"] = True
        if login.awaits_registration:
            app = self._apps.get(login.app)
            response["unregistered"] = True
            if app is not None and app.register_url:
                response["register_url"] = app.register_url
        return response

    async def redeem(self, sid: str, peer: BrowserPeer, body: LoginSecretRequest) -> TokenResponse:
        with self._failures.counting_failures(peer.browser.ip):
            redeemed = await self._redeemer.redeem(body.login_id, body.secret, app=peer.app)
        pushed_at = self._lobby.confirm_pushed_at(body.login_id)
        if pushed_at is not None:
            observe_delivery(redeemed.login, pushed_at=pushed_at, now=self._clock())
        self._lobby.forget(body.login_id)
        return token_response(redeemed)

    async def prove(self, sid: str, peer: BrowserPeer, body: ProveRequest) -> ProveResponse:
        """Send the digits that the person typed.  A wrong answer is not an error."""
        with self._failures.counting_failures(peer.browser.ip):
            login = await self._login_service.prove(
                body.login_id, body.secret, body.match, app=peer.app
            )
        if login.match is None or login.state not in WRONG_ANSWER_STATES:
            return {"login_id": login.id, "state": State.CONFIRMED}
        return {"login_id": login.id, "state": login.state, "tries": login.match.tries_left}

    async def cancel(
        self, sid: str, peer: BrowserPeer, body: LoginSecretRequest
    ) -> LoginStateResponse:
        with self._failures.counting_failures(peer.browser.ip):
            login = await self._login_service.cancel(body.login_id, body.secret, app=peer.app)
        self._lobby.forget(body.login_id)
        return {"login_id": login.id, "state": login.state}

    async def _abandon(self, login_id: str | None) -> None:
        """Cancel the login for which the socket waited before: a socket has one login."""
        if login_id is not None:
            await self._login_service.abandon(login_id)


def _state_for_browser(login: Login, *, now: float) -> State:
    """Return `confirmed` as long as `redeem` returns the token, even after a first redeem."""
    return State.CONFIRMED if login.has_token(now) else login.state


SOCKET_EVENTS = [
    Event(
        NAMESPACE,
        "begin",
        LoginBrowserAPI.begin,
        request=BeginRequest,
        response=BeginResponse,
    ),
    Event(
        NAMESPACE,
        "link",
        LoginBrowserAPI.link,
        request=LoginSecretRequest,
        response=LinkResponse,
    ),
    Event(
        NAMESPACE,
        "resume",
        LoginBrowserAPI.resume,
        request=LoginSecretRequest,
        response=ResumeResponse,
    ),
    Event(
        NAMESPACE,
        "redeem",
        LoginBrowserAPI.redeem,
        request=LoginSecretRequest,
        response=TokenResponse,
    ),
    Event(
        NAMESPACE,
        "prove",
        LoginBrowserAPI.prove,
        request=ProveRequest,
        response=ProveResponse,
    ),
    Event(
        NAMESPACE,
        "cancel",
        LoginBrowserAPI.cancel,
        request=LoginSecretRequest,
        response=LoginStateResponse,
    ),
]
