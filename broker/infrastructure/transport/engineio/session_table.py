"""The sessions of an Engine.IO server, from the handshake to their end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from broker.infrastructure.transport.engineio.heartbeat import Heartbeat
from broker.infrastructure.transport.engineio.inbox import Inboxes, SessionClosed, SessionOpened
from broker.infrastructure.transport.engineio.packets import CLOSE, MESSAGE, PONG, Packet
from broker.infrastructure.transport.engineio.polling import PollingSession
from broker.infrastructure.transport.engineio.sessions import (
    EndReason,
    EngineIOSession,
    EngineIOWebSocket,
)
from broker.infrastructure.transport.engineio.upgrade import Upgrades
from broker.infrastructure.transport.rate_limit import TransportRateLimiter
from broker.infrastructure.transport.step_queue import StepQueue
from broker.infrastructure.transport.websocket import frames
from broker.infrastructure.transport.websocket.closing import CLOSE_TIMEOUT, ClosingTransports
from broker.infrastructure.transport.websocket.connection import CloseReason
from broker.infrastructure.transport.websocket.frames import ProtocolViolation
from broker.infrastructure.transport.websocket.handshake import HTTPRequest

CLOSE_POLLS = 20
"""Checks during a shutdown whether all peers have closed."""

END_REASONS: Mapping[CloseReason, EndReason] = {
    CloseReason.PEER_CLOSED: EndReason.CLIENT_DISCONNECT,
    CloseReason.CONNECTION_LOST: EndReason.TRANSPORT_CLOSE,
    CloseReason.ERROR: EndReason.TRANSPORT_ERROR,
}


class SessionTable:
    """Starts and ends sessions, and passes their messages on. It is their `SessionHandler`.

    handlers: the coroutine functions `connect`, `message` and `disconnect`.
    has_joined: whether the session with this sid is in a namespace. Others are closed.
    on_connect: called with the sid and the request of a new session; returns its rate limit
        key. The default calls the handler `connect`, which costs a task.
    """

    def __init__(
        self,
        *,
        ping_interval: float,
        ping_timeout: float,
        max_message_bytes: int,
        handlers: Mapping[str, Callable[..., Awaitable[object]]],
        rate_limiter: TransportRateLimiter,
    ) -> None:
        self.by_sid: dict[str, EngineIOSession] = {}
        self.has_joined: Callable[[str], bool] = lambda sid: True
        self.on_connect: Callable[[str, HTTPRequest], str] = self._call_connect_handler
        self.max_message_bytes = max_message_bytes
        self.steps = StepQueue()
        self.closing = ClosingTransports()
        self.rate_limiter = rate_limiter
        self.heartbeat = Heartbeat(
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
            has_joined=lambda sid: self.has_joined(sid),
            close=self.close,
        )
        self.upgrades = Upgrades(self.by_sid, self.heartbeat, rate_limiter)
        self.inboxes = Inboxes(
            sessions=self.by_sid,
            handlers=handlers,
            steps=self.steps,
            on_failure=self.close_with_error,
        )

    def start(self, session: EngineIOSession, request: HTTPRequest) -> bool:
        """Start a session. False if a rate limit refuses it."""
        self.by_sid[session.sid] = session
        self.heartbeat.start(session)
        try:
            key = self.on_connect(session.sid, request)
        except Exception:  # whatever the cause, the session is closed
            self.close(session, frames.POLICY, EndReason.TRANSPORT_ERROR)
            return True
        is_polling = isinstance(session, PollingSession)
        is_accepted = self.rate_limiter.open(session, key, polls=is_polling)
        if not is_accepted:
            self.close(session, frames.POLICY, EndReason.TRANSPORT_ERROR)
        return is_accepted

    def close(self, session: EngineIOSession, code: int, reason: EndReason) -> None:
        session.close(code)
        self._remove(session, reason)

    def close_with_error(self, sid: str) -> None:
        """Close a session, if it still exists, because its client or a handler failed."""
        session = self.by_sid.get(sid)
        if session is not None:
            self.close(session, frames.POLICY, EndReason.TRANSPORT_ERROR)

    async def shutdown(self) -> None:
        """Close all sessions. Wait for their last messages, and for the peers to close."""
        sessions = list(self.by_sid.values())
        for session in sessions:
            self.close(session, frames.GOING_AWAY, EndReason.SERVER_DISCONNECT)
        self.heartbeat.close()
        await self.inboxes.close(CLOSE_TIMEOUT)
        for _ in range(CLOSE_POLLS):  # a peer that answers with a close frame closes its connection
            if all(session.is_closed for session in sessions):
                break
            await asyncio.sleep(CLOSE_TIMEOUT / CLOSE_POLLS)
        for session in sessions:
            session.abort()
        self.closing.abort_all()

    # ---- called by sessions ----

    def on_frames(self, session: EngineIOSession, count: int) -> bool:
        return self.rate_limiter.spend(session, count)

    def on_message(self, session: EngineIOSession, packet: Packet) -> None:
        if isinstance(session, EngineIOWebSocket) and session.is_probe:
            self.upgrades.on_packet(session, packet)
        elif session.sid not in self.by_sid:
            return  # the client sent it before it received the close
        elif isinstance(packet, bytes):
            self.inboxes.add(session.sid, packet)
        elif packet[:1] == MESSAGE:
            self.inboxes.add(session.sid, packet[1:])
        elif packet == PONG:
            self.heartbeat.on_pong(session)
        elif packet == CLOSE:
            self._close_for_client(session)
        else:
            raise ProtocolViolation(frames.POLICY, "not an Engine.IO packet")

    def on_closed(self, session: EngineIOSession, reason: CloseReason) -> None:
        self._remove(session, END_REASONS[reason])

    def _call_connect_handler(self, sid: str, request: HTTPRequest) -> str:
        self.inboxes.add(sid, SessionOpened(request))
        return ""

    def _close_for_client(self, session: EngineIOSession) -> None:
        if isinstance(session, PollingSession):
            session.end()
        else:
            session.close()
        self._remove(session, EndReason.CLIENT_DISCONNECT)

    def _remove(self, session: EngineIOSession, reason: EndReason) -> None:
        if isinstance(session, EngineIOWebSocket) and session.is_probe:
            self.upgrades.end(session)
        elif self.by_sid.get(session.sid) is session:
            del self.by_sid[session.sid]
            self.heartbeat.stop(session)
            self.rate_limiter.close(session, polls=isinstance(session, PollingSession))
            self.inboxes.add(session.sid, SessionClosed(reason))
