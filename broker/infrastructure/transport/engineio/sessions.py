"""Engine.IO sessions."""

from __future__ import annotations

import asyncio
from typing import Protocol

from broker.infrastructure.transport.engineio.packets import HeartbeatPhase, Packet
from broker.infrastructure.transport.rate_limit import Address
from broker.infrastructure.transport.turns import Turns
from broker.infrastructure.transport.websocket import frames


class SessionHandler(Protocol):
    """What a socket tells whom it belongs to."""

    max_message_bytes: int
    turns: Turns
    closing: set[asyncio.Transport]
    """Of sockets that are closed here and wait for the peer to close."""

    def on_packet(self, socket: EngineIOSession, packet: Packet) -> None:
        """A packet has come, in order."""

    def spend(self, socket: EngineIOSession, count: int) -> bool:
        """Count received frames; False if they exceed a rate limit."""

    def on_closed(self, socket: EngineIOSession, reason: str) -> None:
        """Nothing more will come or go."""


class EngineIOSession(Protocol):
    """One Engine.IO session on its present way.

    slot: its place on the wheel.  phase: what it is to do until its turn comes there.
    address, full_at, received: what is counted for its rate limits.
    """

    sid: str
    slot: int
    phase: HeartbeatPhase
    address: Address | None
    full_at: float
    received: int

    @property
    def is_closed(self) -> bool:
        """Whether its connection is closed, or closes without the peer."""

    def send(self, packet: Packet) -> None:
        """Send a packet, after all before it."""

    def close(self, code: int = frames.NORMAL) -> None:
        """Close it, once what was sent has gone; nothing that comes from then on is heard."""

    def abort(self) -> None:
        """Close it now."""

    def pause(self) -> None:
        """Take nothing more in, until `resume`: whoever handles it cannot keep up."""

    def resume(self) -> None: ...
