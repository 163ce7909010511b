"""python-socketio as this broker wants it, over whichever transport carries it.

Stricter than python-socketio: whatever a packet trips over closes its socket,
names of handlers cannot be called as events, a socket that has left all it
joined is on its way out, and an end answers first what was asked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import socketio
from aiohttp import web
from socketio import packet

from broker.infrastructure.codec import decode, encode

FRAME_MAX_BYTES = 64 * 1024
"""Longest message; a longer one closes the socket."""

NAMESPACE_MAX = 64
"""Characters of a namespace: an unknown one is answered by repeating it."""

CLOSE_TIMEOUT = 2.0
"""Seconds that acts under way get to be answered before every socket is closed."""

BINARY_PACKET_TYPES = ("5", "6")

ATTACHMENTS_MAX = 10
"""Of one event, where binary is taken at all; as socket.io-parser has it."""

RESERVED_EVENTS = frozenset({"connect", "disconnect", "*"})
"""Names of handlers that python-socketio would let a client call as if they were its events."""

# python-engineio logs packets, which hold secrets; what matters is logged by the edge.
silent_logger = logging.getLogger("broker.infrastructure.transport")

silent_logger.setLevel(logging.CRITICAL + 1)


class JSONCodec:
    """What python-socketio wants of a JSON module."""

    loads = staticmethod(decode)

    @staticmethod
    def dumps(value: Any, separators: tuple[str, str]) -> str:
        return encode(value).decode()


class TextPacket(packet.Packet):  # type: ignore[misc]  # python-socketio has no types
    """A packet that has no attachments, nor is it searched for any."""

    json = JSONCodec
    uses_binary_events = False


class StrictPacket(packet.Packet):  # type: ignore[misc]
    """A packet whose attachments are the ones it has: -1 is none of them, nor is `true`."""

    json = JSONCodec

    @classmethod
    def _reconstruct_binary_internal(cls, data: Any, attachments: list[bytes]) -> Any:
        if isinstance(data, dict) and data.get("_placeholder") and "num" in data:
            number = data["num"]
            if type(number) is not int or not 0 <= number < len(attachments):
                raise ValueError("an attachment that there is not")
        return super()._reconstruct_binary_internal(data, attachments)


class SocketIOServer(socketio.AsyncServer):  # type: ignore[misc]  # python-socketio has no types
    """Socket.IO for the edge.

    describe: what handlers of CONNECT get to know of the request, in place of all
        of it, which would stay as long as the socket does.
    binary: whether events may have attachments, which are held till all of them came.
    longest: bytes of a message, and of an event's attachments together.
    options: of the transport.
    Events of one socket are handled one after the other, in the order they came.
    """

    def __init__(
        self,
        *,
        describe_request: Callable[[web.Request], Any],
        binary: bool = False,
        max_bytes: int = FRAME_MAX_BYTES,
        **options: Any,
    ) -> None:
        super().__init__(
            async_handlers=False,
            namespaces=[],
            max_http_buffer_size=max_bytes,
            serializer=StrictPacket if binary else TextPacket,
            logger=silent_logger,
            **options,
        )
        self._binary = binary
        self._longest = max_bytes
        self.namespaces: list[str] = []  # none without handlers; an empty argument would mean "/"
        self._describe = describe_request
        self._in_flight = 0
        self._idle: asyncio.Event | None = None  # there once it closes, set when all is answered

    async def close(self) -> None:
        """Close every socket, answers to what was asked first, and stop the background task."""
        self._idle = asyncio.Event()
        if self._in_flight:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await self._idle.wait()
        await self.shutdown()

    def check_packet(self, eio_sid: str, data: Any) -> None:
        """Raises ValueError for what may not come now: binary, text amid it, a long namespace."""
        awaited = self._binary_packet.get(eio_sid)
        if awaited is not None:
            _check_attachment(data, awaited.attachments, self._longest)
        elif not isinstance(data, str):
            raise ValueError("an attachment of no event")
        elif data[:1] in BINARY_PACKET_TYPES:
            _check_count(data, ATTACHMENTS_MAX if self._binary else 0)
        elif data[1:2] == "/" and len(data[1:].split(",")[0]) > NAMESPACE_MAX:
            raise ValueError("the namespace is too long")

    def has_joined(self, eio_sid: str) -> bool:
        return any(
            self.manager.sid_from_eio_sid(eio_sid, namespace) is not None
            for namespace in self.manager.get_namespaces()
        )

    async def _handle_eio_message(self, eio_sid: str, data: Any) -> None:
        if self._idle is not None or eio_sid not in self.environ:
            return  # what a closed socket had sent along with its close
        self._in_flight += 1
        try:
            self.check_packet(eio_sid, data)
            await super()._handle_eio_message(eio_sid, data)
        except Exception:  # whatever a packet trips over, the socket is done
            await self.eio.disconnect(eio_sid)
        finally:
            self._in_flight -= 1
            if self._idle is not None and not self._in_flight:
                self._idle.set()

    async def _handle_event(self, eio_sid: str, namespace: str, id: int | None, data: Any) -> None:
        if not isinstance(data, list) or not data or data[0] in RESERVED_EVENTS:
            raise ValueError("not an event")
        await super()._handle_event(eio_sid, namespace, id, data)

    async def _trigger_event(self, event: str, namespace: str, *args: Any) -> Any:
        """Call a handler; all are coroutine functions, so that none has to be looked at first."""
        handler, arguments = self._get_event_handler(event, namespace, args)
        return self.not_handled if handler is None else await handler(*arguments)

    async def _handle_ack(self, eio_sid: str, namespace: str, id: int | None, data: Any) -> None:
        if not isinstance(data, list) or id is None:
            raise ValueError("not an answer")
        await super()._handle_ack(eio_sid, namespace, id, data)

    async def _handle_eio_disconnect(self, eio_sid: str, reason: str) -> None:
        self._binary_packet.pop(eio_sid, None)  # python-socketio would keep what is not whole yet
        await super()._handle_eio_disconnect(eio_sid, reason)


def _check_count(data: str, allowed: int) -> None:
    count = int(data[1:].partition("-")[0])
    if not 1 <= count <= allowed:
        raise ValueError("more attachments than are taken here, or none")


def _check_attachment(data: Any, held: list[bytes], max_bytes: int) -> None:
    if not isinstance(data, bytes) or len(data) + sum(map(len, held)) > max_bytes:
        raise ValueError("not an attachment, or more of them than can be held")
