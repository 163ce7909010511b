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

FRAME_MAX_BYTES = 64 * 1024
"""Longest message; a longer one closes the socket."""

NAMESPACE_MAX = 64
"""Characters of a namespace: an unknown one is answered by repeating it."""

SETTLE = 2.0
"""Seconds that acts under way get to be answered before every socket is closed."""

BINARY_PACKETS = ("5", "6")

NO_EVENTS = frozenset({"connect", "disconnect", "*"})
"""Names of handlers that python-socketio would let a client call as if they were its events."""

# python-engineio logs packets, which hold secrets; what matters is logged by the edge.
silent = logging.getLogger("broker.engine")
silent.setLevel(logging.CRITICAL + 1)


class StrictServer(socketio.AsyncServer):  # type: ignore[misc]  # python-socketio has no types
    """Socket.IO for the edge.

    describe: what handlers of CONNECT get to know of the request, in place of all
        of it, which would stay as long as the socket does.
    options: of the transport.
    Events of one socket are handled one after the other, in the order they came.
    """

    def __init__(self, *, describe: Callable[[web.Request], Any], **options: Any) -> None:
        super().__init__(
            async_handlers=False,
            namespaces=[],
            max_http_buffer_size=FRAME_MAX_BYTES,
            logger=silent,
            **options,
        )
        self.namespaces: list[str] = []  # none without handlers; an empty argument would mean "/"
        self._describe = describe
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._closing = False

    async def close(self) -> None:
        """Close every socket, answers to what was asked first, and stop the background task."""
        self._closing = True
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE):
                await self._idle.wait()
        await self.shutdown()

    def check_packet(self, data: Any) -> None:
        """Raises ValueError for what no client of ours sends: binary, a long namespace."""
        if not isinstance(data, str) or data[:1] in BINARY_PACKETS:
            raise ValueError("no event of ours is binary, and attachments are held till all came")
        if data[1:2] == "/" and len(data[1:].split(",")[0]) > NAMESPACE_MAX:
            raise ValueError("the namespace is too long")

    def joined(self, eio_sid: str) -> bool:
        return any(
            self.manager.sid_from_eio_sid(eio_sid, namespace) is not None
            for namespace in self.manager.get_namespaces()
        )

    def is_open(self, sid: str, namespace: str) -> bool:
        """Whether what is sent to the socket has somewhere to go, as far as one can see."""
        eio_sid = self.manager.eio_sid_from_sid(sid, namespace)
        return eio_sid is not None and self.carries(eio_sid)

    def carries(self, eio_sid: str) -> bool:
        """Whether the transport still has the session; each engine knows that itself."""
        raise NotImplementedError

    async def _handle_eio_message(self, eio_sid: str, data: Any) -> None:
        if self._closing or eio_sid not in self.environ:
            return  # what a closed socket had sent along with its close
        self._under_way += 1
        self._idle.clear()
        try:
            self.check_packet(data)
            await super()._handle_eio_message(eio_sid, data)
        except Exception:  # whatever a packet trips over, the socket is done
            await self.eio.disconnect(eio_sid)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    async def _handle_event(self, eio_sid: str, namespace: str, id: int | None, data: Any) -> None:
        if not isinstance(data, list) or not data or data[0] in NO_EVENTS:
            raise ValueError("not an event")
        await super()._handle_event(eio_sid, namespace, id, data)
