"""A Socket.IO namespace: who may join, who is there, and an answer to everything they say."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Generic, TypeVar

from broker.errors import InvalidRequest
from broker.infrastructure.api.client_address import Caller
from broker.infrastructure.api.errors import ack, to_broker_error
from broker.infrastructure.api.responses import Payload
from broker.infrastructure.api.schema import RequestModel, parse
from broker.infrastructure.transport.socketio.server import ConnectionRefused
from broker.infrastructure.transport.socketio.server import SocketIOServer as Server

P = TypeVar("P")
"""What a namespace remembers of a socket that joined."""


R = TypeVar("R", bound=RequestModel)

Authenticate = Callable[[Caller, object], Awaitable[P]]
"""Lets a caller in, by what CONNECT carried; raises a BrokerError to turn it away."""

EventHandler = Callable[[str, P, tuple[object, ...]], Awaitable[Payload]]
"""Answers an event: sid, what is remembered of the socket, the event's arguments."""


class EventNamespace(Generic[P]):
    def __init__(
        self,
        server: Server,
        name: str,
        *,
        authenticate: Authenticate[P],
        handlers: Mapping[str, EventHandler[P]],
        on_disconnect: Callable[[str], None] = lambda sid: None,
    ) -> None:
        self._admit = authenticate
        self._verbs = handlers
        self._left = on_disconnect
        self._peers: dict[str, P] = {}
        server.on("connect", self._connect, namespace=name)
        server.on("disconnect", self._disconnect, namespace=name)
        server.on("*", self._event, namespace=name)

    async def _connect(self, sid: str, caller: Caller, auth: object = None) -> None:
        try:
            self._peers[sid] = await self._admit(caller, {} if auth is None else auth)
        except Exception as error:  # every CONNECT is answered
            raise ConnectionRefused(to_broker_error(error).body()) from None

    async def _disconnect(self, sid: str, reason: str) -> None:
        self._peers.pop(sid, None)
        self._left(sid)

    async def _event(self, event: str, sid: str, *arguments: object) -> object:
        return await ack(self._answer(event, sid, arguments))

    async def _answer(self, event: str, sid: str, arguments: tuple[object, ...]) -> Payload:
        verb = self._verbs.get(event)
        if verb is None:
            raise InvalidRequest(f"no such event: want one of {', '.join(self._verbs)}")
        return await verb(sid, self._peers[sid], arguments)


def parse_arguments(model: type[R], arguments: tuple[object, ...]) -> R:
    """The payload of a Socket.IO event: one object; none at all counts as an empty one."""
    if len(arguments) > 1:
        raise InvalidRequest("want one object, not several arguments")
    return parse(model, arguments[0] if arguments else {})
