"""Browsers on Socket.IO, namespace /login: begin, resume, redeem, cancel, and the pushes back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import NamedTuple

from broker.apps.model import DEFAULT_APP
from broker.apps.origins import authorize_origin
from broker.apps.ports import Apps
from broker.infrastructure.api.client_address import Caller
from broker.infrastructure.api.event import EventHandler, EventNamespace, parse_arguments
from broker.infrastructure.api.rate_limit import RateLimiter
from broker.infrastructure.api.responses import Payload
from broker.infrastructure.api.schema import (
    AppIdField,
    EmptyRequest,
    LoginIdField,
    RequestModel,
    SecretField,
    parse,
)
from broker.infrastructure.clock import Clock, seconds_until
from broker.infrastructure.coordination import Notice
from broker.infrastructure.transport.socketio.server import SocketIOServer as Server
from broker.login.delivery import Redeemer, token_response
from broker.login.events import UNREGISTERED_EVENT
from broker.login.limits import LoginLimits
from broker.login.lobby import Lobby
from broker.login.model import OPEN, Browser, Login, State
from broker.login.service import LoginService, register_url_field

NAMESPACE = "/login"


class BrowserPeer(NamedTuple):
    """Who is at the other end of a socket.  app, incarnation: that it was admitted to."""

    app: str
    incarnation: str
    browser: Browser


Act = Callable[["LoginBrowserAPI", str, BrowserPeer, tuple[object, ...]], Awaitable[Payload]]


class LoginBrowserAPI:
    def __init__(
        self,
        *,
        server: Server,
        flow: LoginService,
        redeemer: Redeemer,
        lobby: Lobby,
        apps: Apps,
        limits: LoginLimits,
        failures: RateLimiter,
        clock: Clock,
        interval: int,
    ) -> None:
        self._server = server
        self._flow = flow
        self._redeemer = redeemer
        self._lobby = lobby
        self._apps = apps
        self._limits = limits
        self._failures = failures
        self._clock = clock
        self._interval = interval
        verbs: dict[str, EventHandler[BrowserPeer]] = {
            name: partial(act, self) for name, act in SOCKET_EVENTS.items()
        }
        EventNamespace(
            server, NAMESPACE, authenticate=self._admit, handlers=verbs, on_disconnect=lobby.leave
        )

    async def push(self, sid: str, app_id: str, notice: Notice) -> None:
        """Tell the browser what its login has come to: the lobby's `Push`."""
        payload = {"login_id": notice.id}
        app = await self._apps.get(app_id) if notice.event == UNREGISTERED_EVENT else None
        if app is not None:
            payload |= register_url_field(app)
        await self._server.emit(notice.event, payload, to=sid, namespace=NAMESPACE)

    async def _admit(self, caller: Caller, auth: object) -> BrowserPeer:
        app = await authorize_origin(self._apps, parse(ConnectRequest, auth).app, caller.origin)
        return BrowserPeer(app.id, app.incarnation, Browser(caller.ip, caller.user_agent))

    async def _begin(self, sid: str, peer: BrowserPeer, arguments: tuple[object, ...]) -> Payload:
        parse_arguments(EmptyRequest, arguments)
        self._limits.count_begin(peer.browser.ip)
        begun = await self._flow.begin(
            peer.app, peer.browser, has_socket=True, incarnation=peer.incarnation
        )
        await self._replace(self._lobby.wait(sid, begun.login))
        return {
            "login_id": begun.login.id,
            "scene": begun.login.scene,
            "secret": begun.secret,
            "code_url": begun.code_url,
            "expires_in": seconds_until(begun.login.expires_at, self._clock()),
            "interval": self._interval,
        }

    async def _resume(self, sid: str, peer: BrowserPeer, arguments: tuple[object, ...]) -> Payload:
        asked = parse_arguments(LoginSecretRequest, arguments)
        with self._failures.counting_failures(peer.browser.ip):
            login = await self._flow.resume(asked.login_id, asked.secret, app=peer.app)
        if login.state in OPEN:
            await self._replace(self._lobby.wait(sid, login))
            # A notice may have come between reading and waiting, and gone to nobody.
            login = await self._flow.get(login.id) or login
        return {
            "login_id": login.id,
            "state": _state_for_its_browser(login, now=self._clock()),
            "expires_in": seconds_until(login.expires_at, self._clock()),
            **await self._registration(login),
        }

    async def _registration(self, login: Login) -> Payload:
        """Further fields of a login that waits for its person to register."""
        if not login.unregistered or login.state is not State.SCANNED:
            return {}
        app = await self._apps.get(login.app)
        return {"unregistered": True, **(register_url_field(app) if app else {})}

    async def _redeem(self, sid: str, peer: BrowserPeer, arguments: tuple[object, ...]) -> Payload:
        asked = parse_arguments(LoginSecretRequest, arguments)
        with self._failures.counting_failures(peer.browser.ip):
            redeemed = await self._redeemer.redeem(asked.login_id, asked.secret, app=peer.app)
        self._lobby.forget(asked.login_id)
        return token_response(redeemed)

    async def _cancel(self, sid: str, peer: BrowserPeer, arguments: tuple[object, ...]) -> Payload:
        asked = parse_arguments(LoginSecretRequest, arguments)
        with self._failures.counting_failures(peer.browser.ip):
            login = await self._flow.cancel(asked.login_id, asked.secret, app=peer.app)
        self._lobby.forget(asked.login_id)
        return {"login_id": login.id, "state": login.state}

    async def _replace(self, former: str | None) -> None:
        """A socket has one live login: the one it waited for until now is over."""
        if former is not None:
            await self._flow.abandon(former)


def _state_for_its_browser(login: Login, *, now: float) -> State:
    """`confirmed` for as long as `redeem` returns the token, though it may have done so before."""
    return State.CONFIRMED if login.has_token(now) else login.state


SOCKET_EVENTS: Mapping[str, Act] = {
    "begin": LoginBrowserAPI._begin,
    "resume": LoginBrowserAPI._resume,
    "redeem": LoginBrowserAPI._redeem,
    "cancel": LoginBrowserAPI._cancel,
}


class ConnectRequest(RequestModel):
    app: AppIdField = DEFAULT_APP


class LoginSecretRequest(RequestModel):
    login_id: LoginIdField
    secret: SecretField
