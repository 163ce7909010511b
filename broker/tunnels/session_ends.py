"""Ends the tunnels of sessions that have ended."""

from __future__ import annotations

import asyncio

from broker.apps.ports import Apps
from broker.errors import Unavailable
from broker.identity.model import Phone
from broker.infrastructure.background import BackgroundTasks
from broker.sessions.model import person_key
from broker.tunnels.closing import TunnelCloser
from broker.tunnels.model import SESSION_ENDED, ClosedBy
from broker.tunnels.ports import TunnelIndex, TunnelQuery

RETRY_DELAYS = (0.2, 1.0, 5.0, 20.0)
"""Seconds before repeats. After the last one, tunnels end when their session would have."""

CLOSE_TIMEOUT = 3.0


class SessionTunnels:
    """Ends the tunnels of a session when a phone, a user or the app's server ends the session."""

    def __init__(self, *, index: TunnelIndex, closer: TunnelCloser, apps: Apps) -> None:
        self._index = index
        self._closer = closer
        self._apps = apps
        self._tasks = BackgroundTasks()

    def on_ended(self, phone: Phone, session_id: str | None) -> None:
        """End tunnels in the background.  session_id: None for all sessions of the person."""
        self._tasks.spawn("tunnels of a session", self._end_all(phone, session_id))

    async def close(self) -> None:
        """Wait for the tasks up to `CLOSE_TIMEOUT`."""
        await self._tasks.close(grace=CLOSE_TIMEOUT)

    async def _end_all(self, phone: Phone, session_id: str | None) -> None:
        for delay in RETRY_DELAYS:
            try:
                await self._try_end_all(phone, session_id)
                return
            except Unavailable:
                await asyncio.sleep(delay)

    async def _try_end_all(self, phone: Phone, session_id: str | None) -> None:
        app = self._apps.get(phone.app)
        if app is None:
            return
        page = await self._index.find(TunnelQuery(app.key, person=person_key(phone)))
        for tunnel in page.tunnels:
            if session_id in (None, tunnel.session):
                await self._closer.end(tunnel, SESSION_ENDED, ClosedBy.SERVER)
