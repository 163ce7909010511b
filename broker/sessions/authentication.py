"""Authentication of phones by their session."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import NamedTuple

from aiohttp import web
from msgspec.structs import replace

from broker.apps.errors import OriginNotAllowed
from broker.apps.ports import Apps
from broker.errors import InvalidRequest, RateLimited
from broker.infrastructure.api.client_address import Caller, ClientAddresses
from broker.infrastructure.api.endpoint import Auth, Operation
from broker.infrastructure.api.event import EventNamespace
from broker.infrastructure.api.rate_limit import RateLimiter
from broker.infrastructure.api.schema import LoginIdField, RequestModel, SecretField, parse
from broker.sessions.errors import InvalidSession
from broker.sessions.model import SessionToken, person_key
from broker.sessions.service import SessionService

PHONE_NAMESPACE = "/phone"

PHONE = Auth(
    {
        "session": {
            "type": "http",
            "scheme": "bearer",
            "description": "`<id>.<skey>` of the phone's session",
        },
        "sessionId": {
            "type": "apiKey",
            "in": "header",
            "name": "X-WX-Id",
            "description": "the `id` of the phone's session",
        },
        "sessionSkey": {
            "type": "apiKey",
            "in": "header",
            "name": "X-WX-Skey",
            "description": "the `skey` of the same session",
        },
    },
    alternatives=(("session",), ("sessionId", "sessionSkey")),
    errors=(OriginNotAllowed, InvalidSession, RateLimited),
)
"""A phone's session."""

NEW_PHONE = Auth({}, (), errors=(OriginNotAllowed, RateLimited))
"""No session yet.  Pages of unknown sites are refused."""


class SessionCredentials(RequestModel):
    """A session and its proof."""

    id: LoginIdField
    skey: SecretField

    def token(self) -> SessionToken:
        return SessionToken(self.id, self.skey)


class PhonePeer(NamedTuple):
    """A phone's socket, or the sender of a request.  The session is checked at each act."""

    session_token: SessionToken
    address: str


class PhoneAuthenticator:
    """Authenticates phones by their session, over HTTP and on Socket.IO.

    It checks the session at each act, and then calls the handler, of any feature, with the
    session.  Failed attempts are counted per client address until the session is known, and
    per user from then on, so that the phones behind one address are not counted together.
    """

    def __init__(
        self,
        *,
        session_service: SessionService,
        apps: Apps,
        failures: RateLimiter,
        addresses: ClientAddresses,
    ) -> None:
        self._session_service = session_service
        self._apps = apps
        self._failures = failures
        self._addresses = addresses

    async def authenticate(self, http: web.Request, operation: Operation) -> object:
        """Call the handler of a `PHONE` endpoint with the session.  Raises InvalidSession."""
        address = self._client_address(http)
        peer = PhonePeer(session_token_of(http), address)
        return await self._run(peer, operation, await operation.read(http), http.match_info)

    async def accept_new(self, http: web.Request, operation: Operation) -> object:
        """Call the handler of a `NEW_PHONE` endpoint with the client's address."""
        address = self._client_address(http)
        payload = await operation.read(http)
        return await operation.call(address, payload=payload, path=http.match_info)

    def namespace(self) -> EventNamespace[PhonePeer]:
        return EventNamespace(PHONE_NAMESPACE, authenticate=self.connect, run=self.run_event)

    async def connect(self, caller: Caller, auth: object) -> PhonePeer:
        """Accept a socket.  Raises InvalidSession."""
        session_token = parse(SessionCredentials, auth).token()
        with self._failures.counting_failures(caller.ip):
            await self._session_service.check(session_token)
        return PhonePeer(session_token, caller.ip)

    def run_event(
        self, sid: str, peer: PhonePeer, operation: Operation, payload: object
    ) -> Awaitable[object]:
        """Call the handler of an event.  Raises InvalidSession."""
        return self._run(peer, operation, payload)

    def _client_address(self, http: web.Request) -> str:
        """Return the client's address.  Raises OriginNotAllowed for pages of unknown sites.

        Without this check any page could make its visitors use up the failed attempts of
        their network, and so lock the network out.
        """
        caller = self._addresses.caller(http)
        if caller.origin is not None and caller.origin not in self._apps.origins():
            raise OriginNotAllowed
        return caller.ip

    async def _run(
        self,
        peer: PhonePeer,
        operation: Operation,
        payload: object,
        path: Mapping[str, str] | None = None,
    ) -> object:
        with self._failures.counting_failures(peer.address):
            session = await self._session_service.check(peer.session_token)
        with self._failures.counting_failures(person_key(session.phone)):
            used = replace(session, address=peer.address)
            return await operation.call(used, payload=payload, path=path)


def session_token_of(request: web.Request) -> SessionToken:
    """Return the id and skey in `Authorization: Bearer <id>.<skey>` or in Wafer's headers."""
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        session_id, _, skey = bearer.strip().partition(".")
    else:
        session_id = request.headers.get("X-WX-Id", "")
        skey = request.headers.get("X-WX-Skey", "")
    try:
        return parse(SessionCredentials, {"id": session_id, "skey": skey}).token()
    except InvalidRequest:
        raise InvalidSession(
            "send `Authorization: Bearer <id>.<skey>`, or X-WX-Id and X-WX-Skey"
        ) from None
