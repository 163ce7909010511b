"""PINGs, and the time limits for an answer and for joining a namespace.

| phase | when its time on the timer wheel ends |
|---|---|
| JOIN | after 5 s: the session is closed if it is in no namespace, else PING begins |
| PING | after the rest of `ping_interval`: a PING is sent, and PONG begins |
| PONG | after `ping_timeout`: the session is closed. A PONG before that begins ANSWERED |
| ANSWERED | after the rest of `ping_timeout`: PING begins |
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from broker.infrastructure.transport.engineio.packets import PING
from broker.infrastructure.transport.engineio.sessions import (
    EndReason,
    EngineIOSession,
    HeartbeatPhase,
)
from broker.infrastructure.transport.timer_wheel import TimerWheel
from broker.infrastructure.transport.websocket import frames

JOIN_TIMEOUT = 5.0
"""Seconds that a session has to join a namespace."""

TICKS_PER_PING = 25
"""Ticks of the timer wheel between two PINGs."""


class Heartbeat:
    """Sends PINGs, and closes sessions that do not answer or join no namespace in time.

    has_joined: whether the session with this sid is in a namespace.
    close: called with a session, a close code and a reason.
    """

    def __init__(
        self,
        *,
        ping_interval: float,
        ping_timeout: float,
        has_joined: Callable[[str], bool],
        close: Callable[[EngineIOSession, int, EndReason], None],
    ) -> None:
        self._ping_interval = ping_interval
        self._ping_timeout = ping_timeout
        self._has_joined = has_joined
        self._close = close
        self._join_deadlines: dict[str, float] = {}  # in the event loop's time
        self._wheel: TimerWheel[EngineIOSession] = TimerWheel(
            tick=ping_interval / TICKS_PER_PING,
            horizon=max(ping_interval, ping_timeout, JOIN_TIMEOUT),
            on_timeout=self._on_timeout,
        )

    def __len__(self) -> int:
        """Sessions on the timer wheel."""
        return len(self._wheel)

    def start(self, session: EngineIOSession) -> None:
        """Start the heartbeat, and close the session unless it joins a namespace in time."""
        self._join_deadlines[session.sid] = asyncio.get_running_loop().time() + JOIN_TIMEOUT
        session.phase = HeartbeatPhase.JOIN
        self._wheel.schedule(session, min(JOIN_TIMEOUT, self._ping_interval))

    def on_pong(self, session: EngineIOSession) -> None:
        if session.phase is HeartbeatPhase.PONG:
            session.phase = HeartbeatPhase.ANSWERED

    def transfer(self, old: EngineIOSession, new: EngineIOSession) -> None:
        """Continue the heartbeat of `old` with `new`, which has the same sid."""
        self._wheel.transfer(old, new)
        new.phase = old.phase

    def stop(self, session: EngineIOSession) -> None:
        self._join_deadlines.pop(session.sid, None)
        self._wheel.cancel(session)

    def close(self) -> None:
        self._wheel.stop()

    def _on_timeout(self, session: EngineIOSession) -> None:
        if session.phase is HeartbeatPhase.PONG:
            self._close(session, frames.NORMAL, EndReason.PING_TIMEOUT)
        elif self._has_missed_join(session.sid):
            self._close(session, frames.POLICY, EndReason.SERVER_DISCONNECT)
        elif (delay := self._ping_delay(session.phase)) > 0:
            session.phase = HeartbeatPhase.PING
            self._wheel.schedule(session, delay)
        else:
            session.phase = HeartbeatPhase.PONG
            session.send(PING)
            self._wheel.schedule(session, self._ping_timeout)

    def _ping_delay(self, phase: HeartbeatPhase) -> float:
        """Seconds from the end of a phase to the next PING."""
        if phase is HeartbeatPhase.JOIN:
            return max(0.0, self._ping_interval - JOIN_TIMEOUT)
        if phase is HeartbeatPhase.ANSWERED:
            return self._ping_interval - self._ping_timeout
        return 0.0

    def _has_missed_join(self, sid: str) -> bool:
        deadline = self._join_deadlines.get(sid)
        if deadline is None:
            return False
        if self._has_joined(sid):
            del self._join_deadlines[sid]
            return False
        # The wheel may be a tick early, and its next call would be for a PING.
        return asyncio.get_running_loop().time() + self._wheel.tick >= deadline
