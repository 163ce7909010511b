"""Moves a session from long polling to a WebSocket.

client                           server
  │ WebSocket with the sid          │
  │ ──────────── PING "probe" ────▶ │  Upgrades.start
  │ ◀─────────── PONG "probe" ───── │  is_upgrading: each poll is answered at once
  │ ──────────── UPGRADE ─────────▶ │  the WebSocket is the session
"""

from __future__ import annotations

import asyncio

from broker.infrastructure.transport.engineio.heartbeat import Heartbeat
from broker.infrastructure.transport.engineio.packets import PING, PONG, UPGRADE, Packet
from broker.infrastructure.transport.engineio.polling import PollingSession
from broker.infrastructure.transport.engineio.sessions import EngineIOSession, EngineIOWebSocket
from broker.infrastructure.transport.rate_limit import TransportRateLimiter

PROBE_TIMEOUT = 5.0
"""Seconds that a client has to complete an upgrade."""


class Upgrades:
    """Probes of polling sessions.

    sessions: by sid. An upgrade replaces the polling session by its probe.
    """

    def __init__(
        self,
        sessions: dict[str, EngineIOSession],
        heartbeat: Heartbeat,
        rate_limiter: TransportRateLimiter,
    ) -> None:
        self._sessions = sessions
        self._heartbeat = heartbeat
        self._rate_limiter = rate_limiter

    def start(self, polling: PollingSession, probe: EngineIOWebSocket) -> None:
        probe.is_probe, polling.probe = True, probe
        probe.address = polling.address  # both count as one session
        asyncio.get_running_loop().call_later(PROBE_TIMEOUT, self.end, probe)

    def on_packet(self, probe: EngineIOWebSocket, packet: Packet) -> None:
        """Handle a packet that a probe received."""
        polling = self._sessions.get(probe.sid)
        if not isinstance(polling, PollingSession):
            probe.close()
        elif packet == PING + "probe":
            probe.send(PONG + "probe")
            polling.is_upgrading = True
            polling.answer_poll()
        elif packet == UPGRADE:
            self._complete(polling, probe)
        else:
            self.end(probe)

    def end(self, probe: EngineIOWebSocket) -> None:
        """End a probe, if it still is one. The session continues to poll and may try again."""
        polling = self._sessions.get(probe.sid)
        if probe.is_probe:
            probe.is_probe = False
            probe.close()
            if isinstance(polling, PollingSession) and polling.probe is probe:
                polling.probe, polling.is_upgrading = None, False

    def _complete(self, polling: PollingSession, probe: EngineIOWebSocket) -> None:
        """Replace the polling session by its probe, which first sends the queued packets."""
        self._sessions[probe.sid] = probe
        probe.is_probe = False
        self._heartbeat.transfer(polling, probe)
        self._rate_limiter.move(polling, probe)
        for packet in polling.pop_all():
            probe.send(packet)
        polling.probe = None
        polling.end()
