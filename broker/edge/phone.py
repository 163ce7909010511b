"""Phones: HTTP under /phone, and Socket.IO namespace /phone, with the same verbs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from aiohttp import web

from broker.edge.addresses import Addresses, Caller
from broker.edge.gate import Gate, admitted
from broker.edge.namespace import Namespace, Verb
from broker.edge.wire import (
    OpenSession,
    ScannedLogin,
    ScannedScene,
    SessionProof,
    ShownInvitation,
    Wire,
    json_body,
    private,
    read,
    read_arguments,
    seconds_until,
    session_answer,
)
from broker.engine import Server
from broker.errors import ForeignOrigin, InvalidRequest, InvalidSession
from broker.flow import Flow
from broker.login import Phone
from broker.records import Apps
from broker.sessions import Sessions, Shown
from broker.state import Clock, Session, person

if TYPE_CHECKING:  # whoever does not serve need not load a database's library
    from broker.records.people import People

NAMESPACE = "/phone"


class Peer(NamedTuple):
    """Who is at the other end of a socket; the session is checked again at each act."""

    shown: Shown
    address: str


Act = Callable[["PhoneEdge", Phone, tuple[object, ...]], Awaitable[Wire]]


class PhoneEdge:
    def __init__(
        self,
        *,
        server: Server,
        flow: Flow,
        sessions: Sessions,
        apps: Apps,
        people: People,
        gate: Gate,
        addresses: Addresses,
        clock: Clock,
    ) -> None:
        self._flow = flow
        self._sessions = sessions
        self._apps = apps
        self._people = people
        self._gate = gate
        self._addresses = addresses
        self._clock = clock
        verbs: dict[str, Verb[Peer]] = {verb: partial(self._on_socket, verb) for verb in VERBS}
        Namespace(server, NAMESPACE, admit=self._admit, verbs=verbs)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/phone/session", self._open_session),
            web.delete("/phone/session", self._sign_out),
            web.delete("/phone/sessions", self._sign_out_everywhere),
            *(web.post(f"/phone/{verb}", self._post) for verb in VERBS),
        ]

    async def _open_session(self, request: web.Request) -> web.Response:
        address = self._from_no_page(request)
        asked = read(OpenSession, await json_body(request))
        app = await admitted(self._apps, asked.app, None)
        with self._gate.counting_failures(address):
            async with self._gate.opening_session(address):
                opened = await self._sessions.open(app, asked.js_code)
        return private(session_answer(opened, self._clock()))

    async def _sign_out(self, request: web.Request) -> web.Response:
        session = await self._session_of(request)
        return private({"ended": await self._sessions.end(session)})

    async def _sign_out_everywhere(self, request: web.Request) -> web.Response:
        session = await self._session_of(request)
        return private({"ended": await self._sessions.end_all(session.phone)})

    async def _session_of(self, request: web.Request) -> Session:
        address = self._from_no_page(request)
        with self._gate.counting_failures(address):
            return await self._sessions.check(_shown(request))

    async def _post(self, request: web.Request) -> web.Response:
        verb = request.path.rpartition("/")[2]
        address = self._from_no_page(request)
        peer = Peer(_shown(request), address)
        return private(await self._act(verb, peer, (await json_body(request),)))

    def _from_no_page(self, request: web.Request) -> str:
        """The caller's address; raises ForeignOrigin for a page that no app allows.

        Or any page could spend its visitors' tries, and so lock their whole network out.
        """
        origin, browser = self._addresses.caller(request)
        if origin is not None and origin not in self._apps.origins():
            raise ForeignOrigin
        return browser.ip

    async def _admit(self, caller: Caller, auth: object) -> Peer:
        shown = read(SessionProof, auth).shown()
        with self._gate.counting_failures(caller.browser.ip):
            await self._sessions.check(shown)
        return Peer(shown, caller.browser.ip)

    async def _on_socket(
        self, verb: str, sid: str, peer: Peer, arguments: tuple[object, ...]
    ) -> Wire:
        return await self._act(verb, peer, arguments)

    async def _act(self, verb: str, peer: Peer, arguments: tuple[object, ...]) -> Wire:
        with self._gate.counting_failures(peer.address):
            session = await self._sessions.check(peer.shown)
        # From here on the person is known: neighbours behind one address are not counted together.
        with self._gate.counting_failures(person(session.phone)):
            return await VERBS[verb](self, session.phone, arguments)

    async def _scan(self, phone: Phone, arguments: tuple[object, ...]) -> Wire:
        asked = read_arguments(ScannedScene, arguments)
        login, app = await self._flow.scan(asked.scene, phone)
        now = self._clock()
        return {
            "login_id": login.id,
            "state": login.state,
            "expires_in": seconds_until(login.expires_at, now),
            "app": {"id": app.id, "name": app.name},
            "browser": {
                "ip": login.browser.ip,
                "user_agent": login.browser.user_agent,
                "since": max(0, int(now - login.began_at)),
            },
        }

    async def _confirm(self, phone: Phone, arguments: tuple[object, ...]) -> Wire:
        asked = read_arguments(ScannedLogin, arguments)
        login = await self._flow.confirm(asked.login_id, phone)
        # A phone that asks again may find the browser done already; its own act is what it hears.
        return {"login_id": login.id, "state": "confirmed"}

    async def _deny(self, phone: Phone, arguments: tuple[object, ...]) -> Wire:
        asked = read_arguments(ScannedLogin, arguments)
        login = await self._flow.deny(asked.login_id, phone)
        return {"login_id": login.id, "state": login.state}

    async def _register(self, phone: Phone, arguments: tuple[object, ...]) -> Wire:
        asked = read_arguments(ShownInvitation, arguments)
        self._gate.count_registration(person(phone))
        registered = await self._people.register(phone.identity, asked.invitation)
        return {"subject": registered.subject, "name": registered.name}


VERBS: Mapping[str, Act] = {
    "scan": PhoneEdge._scan,
    "confirm": PhoneEdge._confirm,
    "deny": PhoneEdge._deny,
    "register": PhoneEdge._register,
}


def _shown(request: web.Request) -> Shown:
    """id and skey from `Authorization: Bearer id.skey`, or from Wafer's headers."""
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        session_id, _, skey = bearer.strip().partition(".")
    else:
        session_id = request.headers.get("X-WX-Id", "")
        skey = request.headers.get("X-WX-Skey", "")
    try:
        return read(SessionProof, {"id": session_id, "skey": skey}).shown()
    except InvalidRequest:
        raise InvalidSession(
            "want `Authorization: Bearer <id>.<skey>`, or X-WX-Id and X-WX-Skey"
        ) from None
