"""Phones: HTTP under /phone, and Socket.IO namespace /phone, with the same verbs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from aiohttp import web

from broker.apps.errors import OriginNotAllowed
from broker.apps.origins import authorize_origin
from broker.apps.ports import Apps
from broker.identity.model import Phone
from broker.infrastructure.api.bodies import read_json
from broker.infrastructure.api.client_address import Caller, ClientAddresses
from broker.infrastructure.api.event import EventHandler, EventNamespace, parse_arguments
from broker.infrastructure.api.rate_limit import RateLimiter
from broker.infrastructure.api.responses import Payload, no_store_response
from broker.infrastructure.api.schema import LoginIdField, RequestModel, SceneField, parse
from broker.infrastructure.clock import Clock, seconds_until
from broker.infrastructure.transport.socketio.server import SocketIOServer as Server
from broker.login.service import LoginService
from broker.sessions.authentication import (
    PHONE_NAMESPACE,
    PhonePeer,
    SessionCredentials,
    session_token_of,
)
from broker.sessions.limits import SessionLimits
from broker.sessions.model import Session, person_key, session_response
from broker.sessions.phone_api import OpenSessionRequest
from broker.sessions.service import SessionService
from broker.users.phone_api import RegisterRequest

if TYPE_CHECKING:
    from broker.users.ports import UserRegistration


Act = Callable[["LoginPhoneAPI", Phone, tuple[object, ...]], Awaitable[Payload]]


class LoginPhoneAPI:
    def __init__(
        self,
        *,
        server: Server,
        flow: LoginService,
        sessions: SessionService,
        apps: Apps,
        people: UserRegistration,
        session_limits: SessionLimits,
        registrations: RateLimiter,
        failures: RateLimiter,
        addresses: ClientAddresses,
        clock: Clock,
    ) -> None:
        self._flow = flow
        self._sessions = sessions
        self._apps = apps
        self._people = people
        self._session_limits = session_limits
        self._registrations = registrations
        self._failures = failures
        self._addresses = addresses
        self._clock = clock
        verbs: dict[str, EventHandler[PhonePeer]] = {
            verb: partial(self._on_socket, verb) for verb in SOCKET_EVENTS
        }
        EventNamespace(server, PHONE_NAMESPACE, authenticate=self._admit, handlers=verbs)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/phone/session", self._open_session),
            web.delete("/phone/session", self._sign_out),
            web.delete("/phone/sessions", self._sign_out_everywhere),
            *(web.post(f"/phone/{verb}", self._post) for verb in SOCKET_EVENTS),
        ]

    async def _open_session(self, request: web.Request) -> web.Response:
        address = self._from_no_page(request)
        asked = parse(OpenSessionRequest, await read_json(request))
        app = await authorize_origin(self._apps, asked.app, None)
        with self._failures.counting_failures(address):
            async with self._session_limits.opening(address):
                opened = await self._sessions.open(app, asked.js_code)
        return no_store_response(session_response(opened, self._clock()))

    async def _sign_out(self, request: web.Request) -> web.Response:
        session = await self._session_of(request)
        return no_store_response({"ended": await self._sessions.end(session)})

    async def _sign_out_everywhere(self, request: web.Request) -> web.Response:
        session = await self._session_of(request)
        return no_store_response({"ended": await self._sessions.end_all(session.phone)})

    async def _session_of(self, request: web.Request) -> Session:
        address = self._from_no_page(request)
        with self._failures.counting_failures(address):
            return await self._sessions.check(session_token_of(request))

    async def _post(self, request: web.Request) -> web.Response:
        verb = request.path.rpartition("/")[2]
        address = self._from_no_page(request)
        peer = PhonePeer(session_token_of(request), address)
        return no_store_response(await self._act(verb, peer, (await read_json(request),)))

    def _from_no_page(self, request: web.Request) -> str:
        """The caller's address; raises OriginNotAllowed for a page that no app allows.

        Or any page could spend its visitors' tries, and so lock their whole network out.
        """
        caller = self._addresses.caller(request)
        if caller.origin is not None and caller.origin not in self._apps.origins():
            raise OriginNotAllowed
        return caller.ip

    async def _admit(self, caller: Caller, auth: object) -> PhonePeer:
        session_token = parse(SessionCredentials, auth).token()
        with self._failures.counting_failures(caller.ip):
            await self._sessions.check(session_token)
        return PhonePeer(session_token, caller.ip)

    async def _on_socket(
        self, verb: str, sid: str, peer: PhonePeer, arguments: tuple[object, ...]
    ) -> Payload:
        return await self._act(verb, peer, arguments)

    async def _act(self, verb: str, peer: PhonePeer, arguments: tuple[object, ...]) -> Payload:
        with self._failures.counting_failures(peer.address):
            session = await self._sessions.check(peer.session_token)
        # From here on the person is known: neighbours behind one address are not counted together.
        with self._failures.counting_failures(person_key(session.phone)):
            return await SOCKET_EVENTS[verb](self, session.phone, arguments)

    async def _scan(self, phone: Phone, arguments: tuple[object, ...]) -> Payload:
        asked = parse_arguments(ScanRequest, arguments)
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

    async def _confirm(self, phone: Phone, arguments: tuple[object, ...]) -> Payload:
        asked = parse_arguments(DecisionRequest, arguments)
        login = await self._flow.confirm(asked.login_id, phone)
        # A phone that asks again may find the browser done already; its own act is what it hears.
        return {"login_id": login.id, "state": "confirmed"}

    async def _deny(self, phone: Phone, arguments: tuple[object, ...]) -> Payload:
        asked = parse_arguments(DecisionRequest, arguments)
        login = await self._flow.deny(asked.login_id, phone)
        return {"login_id": login.id, "state": login.state}

    async def _register(self, phone: Phone, arguments: tuple[object, ...]) -> Payload:
        asked = parse_arguments(RegisterRequest, arguments)
        self._registrations.count(person_key(phone))
        registered = await self._people.register(phone.identity, asked.invitation)
        return {"subject": registered.subject, "name": registered.name}


SOCKET_EVENTS: Mapping[str, Act] = {
    "scan": LoginPhoneAPI._scan,
    "confirm": LoginPhoneAPI._confirm,
    "deny": LoginPhoneAPI._deny,
    "register": LoginPhoneAPI._register,
}


class ScanRequest(RequestModel):
    scene: SceneField


class DecisionRequest(RequestModel):
    login_id: LoginIdField
