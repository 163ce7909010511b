"""Limits the tunnels of an app."""

from __future__ import annotations

from broker.infrastructure.clock import Clock
from broker.tunnels.errors import TooManyTunnels
from broker.tunnels.ports import TunnelIndex

COUNT_TTL = 1.0
"""Seconds for which a count is used again. In that time an app can exceed its limit."""

APPS_MAX = 1_000
"""Apps whose count is in memory."""


class AppTunnelLimit:
    """Limits the tunnels of each app.

    limit: tunnels of one app over all instances.
    """

    def __init__(self, *, index: TunnelIndex, limit: int, clock: Clock) -> None:
        self._index = index
        self._limit = limit
        self._clock = clock
        self._counts: dict[str, tuple[float, int]] = {}

    async def check(self, owner: str) -> None:
        """Raises TooManyTunnels if the app has its limit, and Unavailable."""
        counted_at, count = self._counts.get(owner, (0.0, 0))
        if not 0 <= self._clock() - counted_at < COUNT_TTL:
            count = await self._index.count(owner)
            if len(self._counts) >= APPS_MAX:
                self._counts.clear()
            self._counts[owner] = (self._clock(), count)
        if count >= self._limit:
            raise TooManyTunnels
