"""python-socketio with stricter rules, for every transport.

- A packet that raises any exception closes its socket.
- A client cannot call a handler by its reserved name, such as `connect`.
- `close` waits for events in progress.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Any

import socketio
from aiohttp import web
from socketio import packet
from socketio.exceptions import ConnectionRefusedError as _ConnectionRefused

from broker.infrastructure.codec import decode, encode
from broker.infrastructure.transport.socketio.text_events import (
    TextEvent,
    build_ack,
    parse_connect,
    parse_event,
)

MESSAGE_MAX_BYTES = 64 * 1024
"""Longest message. A longer one closes the socket."""

NAMESPACE_MAX = 64
"""Longest name of a namespace. The answer to an unknown one repeats its name."""

CLOSE_TIMEOUT = 2.0
"""Seconds that `close` waits for events in progress."""

BINARY_PACKET_TYPES = ("5", "6")

ATTACHMENTS_MAX = 10
"""Most attachments of an event, if the server accepts binary data. socket.io-parser has the same
limit."""

RESERVED_EVENTS = frozenset({"connect", "disconnect", "*"})
"""Names of handlers that python-socketio would call for an event with this name."""

# python-engineio logs packets, which contain secrets. The API layer logs relevant events.
silent_logger = logging.getLogger("broker.infrastructure.transport")

silent_logger.setLevel(logging.CRITICAL + 1)


class ConnectionRefused(_ConnectionRefused):  # type: ignore[misc]  # python-socketio has no types
    """Raised by a CONNECT handler to refuse a client.

    The client's `connect_error` has the error description as message and `body` as data.
    """

    def __init__(self, body: Mapping[str, object]) -> None:
        super().__init__(body["error_description"], dict(body))


class JSONCodec:
    """The functions of a JSON module that python-socketio calls."""

    loads = staticmethod(decode)

    @staticmethod
    def dumps(value: Any, separators: tuple[str, str]) -> str:
        return encode(value).decode()


class TextPacket(packet.Packet):  # type: ignore[misc]  # python-socketio has no types
    """A packet without attachments. Its data is not searched for binary values."""

    json = JSONCodec
    uses_binary_events = False


class StrictPacket(packet.Packet):  # type: ignore[misc]
    """A packet whose placeholders have valid indexes. -1 and `true` are invalid."""

    json = JSONCodec

    @classmethod
    def _reconstruct_binary_internal(cls, data: Any, attachments: list[bytes]) -> Any:
        if isinstance(data, dict) and data.get("_placeholder") and "num" in data:
            number = data["num"]
            if type(number) is not int or not 0 <= number < len(attachments):
                raise ValueError("no such attachment")
        return super()._reconstruct_binary_internal(data, attachments)


class SocketIOServer(socketio.AsyncServer):  # type: ignore[misc]  # python-socketio has no types
    """A Socket.IO server. It handles the events of one socket one after the other, in order.

    describe_request: returns what CONNECT handlers receive instead of the request. The request
        itself would stay in memory as long as the socket.
    binary: whether events may have attachments.
    max_bytes: longest message, and longest sum of an event's attachments.
    options: for python-socketio and the transport.
    """

    def __init__(
        self,
        *,
        describe_request: Callable[[web.Request], Any],
        binary: bool = False,
        max_bytes: int = MESSAGE_MAX_BYTES,
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
        self._max_bytes = max_bytes
        self.namespaces: list[str] = []  # as an argument, an empty list would mean "/"
        self._describe_request = describe_request
        self._in_progress = 0
        self._idle: asyncio.Event | None = None  # set when the server closes and no event is left

    async def close(self) -> None:
        """Wait for events in progress, then close all sockets and the transport."""
        self._idle = asyncio.Event()
        if self._in_progress:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await self._idle.wait()
        await self.shutdown()

    async def emit_to_all(
        self, event: str, data: Any, *, sids: Collection[str], namespace: str
    ) -> None:
        """Send an event to several sockets, encoded once for all of them."""
        await self.emit(event, data, to=list(sids), namespace=namespace)

    def check_packet(self, eio_sid: str, data: Any) -> None:
        """Raise ValueError for unexpected binary data or text, and for a long namespace."""
        incomplete = self._binary_packet.get(eio_sid)
        if incomplete is not None:
            _check_attachment(data, incomplete.attachments, self._max_bytes)
        elif not isinstance(data, str):
            raise ValueError("attachment without an event")
        elif data[:1] in BINARY_PACKET_TYPES:
            _check_count(data, ATTACHMENTS_MAX if self._binary else 0)
        elif data[1:2] == "/" and len(data[1:].split(",")[0]) > NAMESPACE_MAX:
            raise ValueError("namespace is too long")

    def has_joined(self, eio_sid: str) -> bool:
        return any(
            self.manager.sid_from_eio_sid(eio_sid, namespace) is not None
            for namespace in self.manager.get_namespaces()
        )

    async def _handle_eio_message(self, eio_sid: str, data: Any) -> None:
        if self._idle is not None or eio_sid not in self.environ:
            return  # the server closes, or the client sent it before it received the close
        self._in_progress += 1
        try:
            packet = None if self._binary else parse_event(data) or parse_connect(data)
            if packet is None or len(packet.namespace) > NAMESPACE_MAX:
                self.check_packet(eio_sid, data)
                await super()._handle_eio_message(eio_sid, data)
            elif isinstance(packet, TextEvent):
                await self._handle_text_event(eio_sid, packet)
            else:
                await self._handle_connect(eio_sid, packet.namespace, packet.data)
        except Exception:  # whatever the cause, the socket is closed
            await self.eio.disconnect(eio_sid)
        finally:
            self._in_progress -= 1
            if self._idle is not None and not self._in_progress:
                self._idle.set()

    async def _handle_text_event(self, eio_sid: str, event: TextEvent) -> None:
        _check_event(event.data)
        sid = self.manager.sid_from_eio_sid(eio_sid, event.namespace)
        if not self.manager.is_connected(sid, event.namespace):
            return
        name, *arguments = event.data
        answer = await self._trigger_event(name, event.namespace, sid, *arguments)
        if event.id is not None and answer != self.not_handled:
            await self.eio.send(eio_sid, build_ack(event, answer))

    async def _handle_event(self, eio_sid: str, namespace: str, id: int | None, data: Any) -> None:
        _check_event(data)
        await super()._handle_event(eio_sid, namespace, id, data)

    async def _trigger_event(self, event: str, namespace: str, *args: Any) -> Any:
        """Call a handler. All handlers are coroutine functions, so there is no check for it."""
        handler, arguments = self._get_event_handler(event, namespace, args)
        return self.not_handled if handler is None else await handler(*arguments)

    async def _handle_ack(self, eio_sid: str, namespace: str, id: int | None, data: Any) -> None:
        if not isinstance(data, list) or id is None:
            raise ValueError("not an acknowledgement")
        await super()._handle_ack(eio_sid, namespace, id, data)

    async def _handle_eio_disconnect(self, eio_sid: str, reason: str) -> None:
        self._binary_packet.pop(eio_sid, None)  # python-socketio keeps incomplete events
        await super()._handle_eio_disconnect(eio_sid, reason)


def _check_event(data: Any) -> None:
    if not isinstance(data, list) or not data or data[0] in RESERVED_EVENTS:
        raise ValueError("not an event")


def _check_count(data: str, allowed: int) -> None:
    count = int(data[1:].partition("-")[0])
    if not 1 <= count <= allowed:
        raise ValueError("invalid number of attachments")


def _check_attachment(data: Any, earlier: list[bytes], max_bytes: int) -> None:
    if not isinstance(data, bytes) or len(data) + sum(map(len, earlier)) > max_bytes:
        raise ValueError("not an attachment, or the attachments are too long")
