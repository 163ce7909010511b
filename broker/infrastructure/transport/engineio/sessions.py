"""Engine.IO sessions, and the session over a WebSocket."""

from __future__ import annotations

import asyncio
from enum import IntEnum, StrEnum
from typing import Protocol, TypeAlias

from broker.infrastructure.transport.engineio.packets import Packet
from broker.infrastructure.transport.rate_limit import AddressUsage
from broker.infrastructure.transport.websocket import frames
from broker.infrastructure.transport.websocket.connection import MessageHandler, WebSocketConnection


class HeartbeatPhase(IntEnum):
    """The state of a session's heartbeat, see heartbeat.py."""

    JOIN = 0
    PING = 1
    PONG = 2
    ANSWERED = 3


class EndReason(StrEnum):
    """Why a session ended, in python-engineio's words."""

    CLIENT_DISCONNECT = "client disconnect"
    PING_TIMEOUT = "ping timeout"
    SERVER_DISCONNECT = "server disconnect"
    TRANSPORT_CLOSE = "transport close"
    TRANSPORT_ERROR = "transport error"


class EngineIOSession(Protocol):
    """One session over its present transport.

    slot: the session's slot on the timer wheel.  phase: what happens when that is due.
    address, full_at, received: for the rate limiter.
    """

    sid: str
    slot: int
    phase: HeartbeatPhase
    address: AddressUsage | None
    full_at: float
    received: int

    @property
    def is_closed(self) -> bool:
        """Whether its connection is closed or closes without the peer."""

    def send(self, packet: Packet) -> None:
        """Send a packet after all earlier ones."""

    def close(self, code: int = frames.NORMAL) -> None:
        """Close after all sent packets. Later packets of the client are not handled."""

    def abort(self) -> None:
        """Close now."""

    def pause(self) -> None:
        """Read nothing until `resume`."""

    def resume(self) -> None: ...


SessionHandler: TypeAlias = MessageHandler[EngineIOSession]
"""Receives the packets of sessions."""


class EngineIOWebSocket(WebSocketConnection):
    """A session over a WebSocket, or the probe of one that still polls."""

    __slots__ = ("address", "full_at", "is_probe", "phase", "received", "sid", "slot")

    def __init__(self, handler: SessionHandler, sid: str, transport: asyncio.Transport) -> None:
        super().__init__(handler, transport)
        self.sid = sid
        self.slot = -1
        self.phase = HeartbeatPhase.JOIN
        self.is_probe = False
        self.address: AddressUsage | None = None
        self.full_at = 0.0
        self.received = 0
