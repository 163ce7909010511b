"""A Socket.IO namespace: who may join, who is there, and an answer to everything they say."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Generic, TypeVar

from broker.edge.addresses import Caller
from broker.edge.wire import Wire, acked, failure
from broker.engine import Refused, Server
from broker.errors import InvalidRequest

P = TypeVar("P")
"""What a namespace remembers of a socket that joined."""

Admit = Callable[[Caller, object], Awaitable[P]]
"""Lets a caller in, by what CONNECT carried; raises a BrokerError to turn it away."""

Verb = Callable[[str, P, tuple[object, ...]], Awaitable[Wire]]
"""Answers an event: sid, what is remembered of the socket, the event's arguments."""


class Namespace(Generic[P]):
    def __init__(
        self,
        server: Server,
        name: str,
        *,
        admit: Admit[P],
        verbs: Mapping[str, Verb[P]],
        left: Callable[[str], None] = lambda sid: None,
    ) -> None:
        self._admit = admit
        self._verbs = verbs
        self._left = left
        self._peers: dict[str, P] = {}
        server.on("connect", self._connect, namespace=name)
        server.on("disconnect", self._disconnect, namespace=name)
        server.on("*", self._event, namespace=name)

    async def _connect(self, sid: str, caller: Caller, auth: object = None) -> None:
        try:
            self._peers[sid] = await self._admit(caller, {} if auth is None else auth)
        except Exception as error:  # every CONNECT is answered
            raise Refused(failure(error).body()) from None

    async def _disconnect(self, sid: str, reason: str) -> None:
        self._peers.pop(sid, None)
        self._left(sid)

    async def _event(self, event: str, sid: str, *arguments: object) -> Wire:
        return await acked(self._answer(event, sid, arguments))

    async def _answer(self, event: str, sid: str, arguments: tuple[object, ...]) -> Wire:
        verb = self._verbs.get(event)
        if verb is None:
            raise InvalidRequest(f"no such event: want one of {', '.join(self._verbs)}")
        return await verb(sid, self._peers[sid], arguments)
