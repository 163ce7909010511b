"""Browsers on Socket.IO, namespace /login: begin, resume, redeem, cancel, and the pushes back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from broker.bus import Notice
from broker.edge.gate import Addresses, Gate
from broker.edge.wire import (
    ConnectLogin,
    Nothing,
    OwnedLogin,
    Wire,
    acked,
    failure,
    plain,
    read,
    read_arguments,
    seconds_until,
)
from broker.engine import Refused, Server
from broker.errors import ForeignOrigin, InvalidRequest, UnknownApp
from broker.flow import UNREGISTERED, Flow, Redeemed, register_field
from broker.lobby import Lobby
from broker.login import OPEN, Browser
from broker.records import App, Apps
from broker.state import Clock

NAMESPACE = "/login"
USER_AGENT_MAX = 256


class Peer(NamedTuple):
    """Who is at the other end of a socket."""

    app: str
    browser: Browser


Verb = Callable[["BrowserEdge", str, Peer, tuple[object, ...]], Awaitable[Wire]]


class BrowserEdge:
    def __init__(
        self,
        *,
        server: Server,
        flow: Flow,
        lobby: Lobby,
        apps: Apps,
        gate: Gate,
        addresses: Addresses,
        clock: Clock,
        interval: int,
    ) -> None:
        self._server = server
        self._flow = flow
        self._lobby = lobby
        self._apps = apps
        self._gate = gate
        self._addresses = addresses
        self._clock = clock
        self._interval = interval
        self._peers: dict[str, Peer] = {}
        server.on("connect", self._connect, namespace=NAMESPACE)
        server.on("disconnect", self._disconnect, namespace=NAMESPACE)
        server.on("*", self._event, namespace=NAMESPACE)

    async def push(self, sid: str, app_id: str, notice: Notice) -> None:
        """Tell the browser what its login has come to: the lobby's `Push`."""
        payload = {"login_id": notice.login_id}
        app = await self._apps.get(app_id) if notice.event == UNREGISTERED else None
        if app is not None:
            payload |= register_field(app)
        await self._server.emit(notice.event, payload, to=sid, namespace=NAMESPACE)

    async def _connect(self, sid: str, environ: Mapping[str, Any], auth: object = None) -> None:
        try:
            app_id = read(ConnectLogin, {} if auth is None else auth).app
            app = await admitted(self._apps, app_id, environ.get("HTTP_ORIGIN"))
        except Exception as error:  # every CONNECT is answered
            raise Refused(failure(error).body()) from None
        browser = Browser(
            ip=self._addresses.of(environ["aiohttp.request"]),
            user_agent=plain(environ.get("HTTP_USER_AGENT", ""), USER_AGENT_MAX),
        )
        self._peers[sid] = Peer(app.id, browser)

    async def _disconnect(self, sid: str, reason: str) -> None:
        self._peers.pop(sid, None)
        self._lobby.leave(sid)

    async def _event(self, event: str, sid: str, *arguments: object) -> Wire:
        return await acked(self._answer(event, sid, arguments))

    async def _answer(self, event: str, sid: str, arguments: tuple[object, ...]) -> Wire:
        verb = VERBS.get(event)
        if verb is None:
            raise InvalidRequest(f"no such event: want one of {', '.join(VERBS)}")
        return await verb(self, sid, self._peers[sid], arguments)

    async def _begin(self, sid: str, peer: Peer, arguments: tuple[object, ...]) -> Wire:
        read_arguments(Nothing, arguments)
        await self._gate.begin(peer.browser.ip)
        begun = await self._flow.begin(peer.app, peer.browser, waits_here=True)
        await self._replace(self._lobby.wait(sid, begun.login))
        return {
            "login_id": begun.login.id,
            "scene": begun.login.scene,
            "secret": begun.secret,
            "code_url": begun.code_url,
            "expires_in": seconds_until(begun.login.expires_at, self._clock()),
            "interval": self._interval,
        }

    async def _resume(self, sid: str, peer: Peer, arguments: tuple[object, ...]) -> Wire:
        asked = read_arguments(OwnedLogin, arguments)
        async with self._gate.guess(peer.browser.ip):
            login = await self._flow.resume(asked.login_id, asked.secret, app=peer.app)
        if login.state in OPEN:
            await self._replace(self._lobby.wait(sid, login))
        return {
            "login_id": login.id,
            "state": login.state,
            "expires_in": seconds_until(login.expires_at, self._clock()),
        }

    async def _redeem(self, sid: str, peer: Peer, arguments: tuple[object, ...]) -> Wire:
        asked = read_arguments(OwnedLogin, arguments)
        async with self._gate.guess(peer.browser.ip):
            redeemed = await self._flow.redeem(asked.login_id, asked.secret, app=peer.app)
        self._lobby.forget(asked.login_id)
        return token_answer(redeemed)

    async def _cancel(self, sid: str, peer: Peer, arguments: tuple[object, ...]) -> Wire:
        asked = read_arguments(OwnedLogin, arguments)
        async with self._gate.guess(peer.browser.ip):
            login = await self._flow.cancel(asked.login_id, asked.secret, app=peer.app)
        self._lobby.forget(asked.login_id)
        return {"login_id": login.id, "state": login.state}

    async def _replace(self, former: str | None) -> None:
        """A socket has one live login: the one it waited for until now is over."""
        if former is not None:
            await self._flow.abandon(former)


VERBS: Mapping[str, Verb] = {
    "begin": BrowserEdge._begin,
    "resume": BrowserEdge._resume,
    "redeem": BrowserEdge._redeem,
    "cancel": BrowserEdge._cancel,
}


async def admitted(apps: Apps, app_id: str, origin: str | None) -> App:
    """The app, if pages of `origin` may use it; a caller that is no page sends no Origin.

    Raises UnknownApp or ForeignOrigin.
    """
    app = await apps.get(app_id)
    if app is None:
        raise UnknownApp
    if origin is not None and origin not in app.origins:
        raise ForeignOrigin
    return app


def token_answer(redeemed: Redeemed) -> Wire:
    return {
        "access_token": redeemed.token.access_token,
        "token_type": "Bearer",
        "expires_in": redeemed.token.expires_in,
        "subject": redeemed.login.subject,
    }
