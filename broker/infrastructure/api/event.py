"""Socket.IO events, declared next to their handlers.

A feature's `*api.py` declares its events after the API class:

    SOCKET_EVENTS = [
        Event("/phone", "scan", LoginPhoneAPI.scan, request=ScanRequest, response=ScanResponse),
    ]

`bind_events(LoginPhoneAPI(...), SOCKET_EVENTS)` binds the handlers, and `EventNamespace.serve`
serves the events of one namespace, from any number of features.

A handler is called by the namespace's `run`: by default with the sid, the socket's peer and the
parsed request; on `/phone` with the session and the parsed request.  It returns a dict of the
`response` model's fields, which is the acknowledgement.  An error becomes an acknowledgement too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from types import MethodType
from typing import Any, Generic, NamedTuple, TypeVar

from broker.errors import InvalidRequest
from broker.infrastructure.api.bodies import read_json
from broker.infrastructure.api.client_address import Caller
from broker.infrastructure.api.endpoint import BoundHandler, Operation, parser_of
from broker.infrastructure.api.errors import ack, to_broker_error
from broker.infrastructure.api.schema import EmptyRequest, RequestModel
from broker.infrastructure.transport.socketio.server import ConnectionRefused, SocketIOServer

P = TypeVar("P")
"""The peer of a socket: what its CONNECT packet authenticated."""

Authenticate = Callable[[Caller, object], Awaitable[P]]
"""Returns the peer of a new socket, from the CONNECT payload.  Raises a BrokerError to refuse."""

Run = Callable[[str, P, Operation, object], Awaitable[Any]]
"""Calls an event's handler.  Arguments: sid, peer, the event's operation, its payload."""


class Event(NamedTuple):
    """One event that clients send.

    handler: a method of the API class, unbound.
    response: the model of the acknowledgement.
    """

    namespace: str
    name: str
    handler: BoundHandler
    response: type[Any]
    request: type[RequestModel] = EmptyRequest


class BoundEvent(NamedTuple):
    """An event whose handler is bound to an API object."""

    event: Event
    operation: Operation


def bind_events(api: object, events: Iterable[Event]) -> list[BoundEvent]:
    """Return the events with their handlers bound to `api`."""
    return [
        BoundEvent(one, Operation(MethodType(one.handler, api), parser_of(one.request), read_json))
        for one in events
    ]


def call_with_peer(sid: str, peer: object, operation: Operation, payload: object) -> Awaitable[Any]:
    """Call a handler with the sid, the peer and the parsed request."""
    return operation.call(sid, peer, payload=payload)


class EventNamespace(Generic[P]):
    """One Socket.IO namespace: its CONNECT, its DISCONNECT and its events.

    on_connect: gets the sid and the peer of a socket that is accepted. Its client receives what is
        sent later after the answer to CONNECT; a task that `on_connect` starts may send.
    on_disconnect: gets the sid of a socket that has left.
    """

    def __init__(
        self,
        name: str,
        *,
        authenticate: Authenticate[P],
        run: Run[P] = call_with_peer,
        on_connect: Callable[[str, P], None] = lambda sid, peer: None,
        on_disconnect: Callable[[str], None] = lambda sid: None,
    ) -> None:
        self._name = name
        self._authenticate = authenticate
        self._run = run
        self._on_connect = on_connect
        self._on_disconnect = on_disconnect
        self._operations: dict[str, Operation] = {}
        self._peers: dict[str, P] = {}

    def serve(self, server: SocketIOServer, events: Iterable[BoundEvent]) -> None:
        """Accept sockets and events from now on.  Events of other namespaces are left out."""
        for one in events:
            if one.event.namespace == self._name:
                self._operations[one.event.name] = one.operation
        server.on("connect", self._connect, namespace=self._name)
        server.on("disconnect", self._disconnect, namespace=self._name)
        server.on("*", self._event, namespace=self._name)

    async def _connect(self, sid: str, caller: Caller, auth: object = None) -> None:
        try:
            peer = await self._authenticate(caller, {} if auth is None else auth)
            self._on_connect(sid, peer)
            self._peers[sid] = peer
        except Exception as error:  # every CONNECT is answered
            raise ConnectionRefused(to_broker_error(error).body()) from None

    async def _disconnect(self, sid: str, reason: str) -> None:
        self._peers.pop(sid, None)
        self._on_disconnect(sid)

    async def _event(self, event: str, sid: str, *arguments: object) -> object:
        return await ack(self._answer(event, sid, arguments))

    async def _answer(self, event: str, sid: str, arguments: tuple[object, ...]) -> object:
        operation = self._operations.get(event)
        if operation is None:
            raise InvalidRequest(f"unknown event; send one of {', '.join(self._operations)}")
        return await self._run(sid, self._peers[sid], operation, _payload(arguments))


def _payload(arguments: tuple[object, ...]) -> object:
    """Return the one argument of an event.  No argument counts as an empty object."""
    if len(arguments) > 1:
        raise InvalidRequest("an event takes one object, not several arguments")
    return arguments[0] if arguments else {}
