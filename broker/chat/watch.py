"""Closes connections whose login has ended, and extends the sessions of the others."""

from __future__ import annotations

import asyncio

from broker.chat.blocked import BlockedSubjects
from broker.chat.connections import Connection, Connections
from broker.chat.fan_out import Pushes
from broker.chat.sessions import ChatSessions
from broker.errors import Unavailable

WATCH_INTERVAL = 60.0
"""Seconds in which each connection is checked once."""

RETRY_DELAY = 2.0
"""Seconds before the next look for blocked users after a failed one."""

WATCH_SLICES = 12
"""Parts of an interval."""


class SessionWatch:
    """Checks the sessions of all connections."""

    def __init__(
        self,
        *,
        sessions: ChatSessions,
        connections: Connections,
        blocked: BlockedSubjects,
        pushes: Pushes,
    ) -> None:
        self._blocked = blocked
        self._sessions = sessions
        self._connections = connections
        self._pushes = pushes

    async def run(self) -> None:
        """Check all connections again and again, until cancelled."""
        index = 0
        while True:
            await asyncio.sleep(WATCH_INTERVAL / WATCH_SLICES)
            index = (index + 1) % WATCH_SLICES
            for connection in self._connections.all():
                if hash(connection.sid) % WATCH_SLICES == index:
                    await self.check(connection)

    async def run_blocks(self) -> None:
        """Close the connections of blocked users, until cancelled."""
        while True:
            try:
                await self.check_blocked()
            except Unavailable:  # the records log their own outages
                await asyncio.sleep(RETRY_DELAY)
            else:
                await self._blocked.wait()

    async def check_blocked(self) -> None:
        """Close the connections of users who were blocked or removed. Raises Unavailable."""
        if await self._blocked.look():
            for connection in self._connections.all():
                if connection.person.subject in self._blocked:
                    await self.check(connection)

    async def check(self, connection: Connection) -> None:
        """Close a connection whose login or app has ended, or extend its session."""
        try:
            if not await self._sessions.is_active(connection.session):
                await self._sessions.end(connection)
                await self._close(connection, "session_ended")
            elif not self._sessions.is_served(connection.session):
                await self._close(connection, "room_closed")
            else:
                await self._sessions.extend(connection)
        except Unavailable:
            return  # the next check repeats it

    async def _close(self, connection: Connection, reason: str) -> None:
        for room in list(connection.rooms):
            await self._pushes.close_room(room, reason, [connection.sid])
        await self._pushes.disconnect(connection.sid)
