"""Settings of the Socket.IO transport: its engine, and limits of what clients send."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from broker.infrastructure.settings import SettingsGroup, one_of

ENGINES: Mapping[str, str] = {
    "own": "broker.infrastructure.transport.socketio.native:NativeServer",
    "stock": "broker.infrastructure.transport.fallback.server:FallbackServer",
}
"""The server of each engine, by name.  It is imported on first use."""


class TransportSettings(SettingsGroup):
    engine: Annotated[str, one_of(ENGINES)] = Field(
        "own", description="Engine.IO implementation: `own`, or `stock` (python-engineio)"
    )
    socket_packets_per_minute: int = Field(
        600,
        gt=0,
        description="WebSocket frames or polling packets that one Socket.IO connection may send "
        "per minute; a connection over the limit is closed",
    )
    address_packets_per_minute: int = Field(
        60_000,
        gt=0,
        description="the same limit for all connections of one address together; a new "
        "connection may still send 32",
    )
    polling_sessions_per_address: int = Field(
        2_000,
        gt=0,
        description="Socket.IO sessions over long polling that one address may have open",
    )
