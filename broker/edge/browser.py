"""Browsers on Socket.IO, namespace /login: begin, resume, redeem, cancel, and the pushes back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import NamedTuple

from broker.edge.addresses import Caller
from broker.edge.gate import Gate, admitted
from broker.edge.namespace import Namespace, Verb
from broker.edge.wire import (
    ConnectLogin,
    Nothing,
    OwnedLogin,
    Wire,
    read,
    read_arguments,
    seconds_until,
    token_answer,
)
from broker.engine import Server
from broker.flow import UNREGISTERED, Flow, register_field
from broker.lobby import Lobby
from broker.login import OPEN, Browser, Login, Notice, State
from broker.records import Apps
from broker.state import Clock

NAMESPACE = "/login"


class Peer(NamedTuple):
    """Who is at the other end of a socket.  app, incarnation: that it was admitted to."""

    app: str
    incarnation: str
    browser: Browser


Act = Callable[["BrowserEdge", str, Peer, tuple[object, ...]], Awaitable[Wire]]


class BrowserEdge:
    def __init__(
        self,
        *,
        server: Server,
        flow: Flow,
        lobby: Lobby,
        apps: Apps,
        gate: Gate,
        clock: Clock,
        interval: int,
    ) -> None:
        self._server = server
        self._flow = flow
        self._lobby = lobby
        self._apps = apps
        self._gate = gate
        self._clock = clock
        self._interval = interval
        verbs: dict[str, Verb[Peer]] = {name: partial(act, self) for name, act in VERBS.items()}
        Namespace(server, NAMESPACE, admit=self._admit, verbs=verbs, left=lobby.leave)

    async def push(self, sid: str, app_id: str, notice: Notice) -> None:
        """Tell the browser what its login has come to: the lobby's `Push`."""
        payload = {"login_id": notice.login_id}
        app = await self._apps.get(app_id) if notice.event == UNREGISTERED else None
        if app is not None:
            payload |= register_field(app)
        await self._server.emit(notice.event, payload, to=sid, namespace=NAMESPACE)

    async def _admit(self, caller: Caller, auth: object) -> Peer:
        app = await admitted(self._apps, read(ConnectLogin, auth).app, caller.origin)
        return Peer(app.id, app.incarnation, caller.browser)

    async def _begin(self, sid: str, peer: Peer, arguments: tuple[object, ...]) -> Wire:
        read_arguments(Nothing, arguments)
        self._gate.count_begin(peer.browser.ip)
        begun = await self._flow.begin(
            peer.app, peer.browser, waits_here=True, incarnation=peer.incarnation
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

    async def _resume(self, sid: str, peer: Peer, arguments: tuple[object, ...]) -> Wire:
        asked = read_arguments(OwnedLogin, arguments)
        with self._gate.counting_failures(peer.browser.ip):
            login = await self._flow.resume(asked.login_id, asked.secret, app=peer.app)
        if login.state in OPEN:
            await self._replace(self._lobby.wait(sid, login))
            # A notice may have come between reading and waiting, and gone to nobody.
            login = await self._flow.look(login.id) or login
        return {
            "login_id": login.id,
            "state": _state_for_its_browser(login, now=self._clock()),
            "expires_in": seconds_until(login.expires_at, self._clock()),
            **await self._registration(login),
        }

    async def _registration(self, login: Login) -> Wire:
        """Further fields of a login that waits for its person to register."""
        if not login.unregistered or login.state is not State.SCANNED:
            return {}
        app = await self._apps.get(login.app)
        return {"unregistered": True, **(register_field(app) if app else {})}

    async def _redeem(self, sid: str, peer: Peer, arguments: tuple[object, ...]) -> Wire:
        asked = read_arguments(OwnedLogin, arguments)
        with self._gate.counting_failures(peer.browser.ip):
            redeemed = await self._flow.redeem(asked.login_id, asked.secret, app=peer.app)
        self._lobby.forget(asked.login_id)
        return token_answer(redeemed)

    async def _cancel(self, sid: str, peer: Peer, arguments: tuple[object, ...]) -> Wire:
        asked = read_arguments(OwnedLogin, arguments)
        with self._gate.counting_failures(peer.browser.ip):
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


VERBS: Mapping[str, Act] = {
    "begin": BrowserEdge._begin,
    "resume": BrowserEdge._resume,
    "redeem": BrowserEdge._redeem,
    "cancel": BrowserEdge._cancel,
}
