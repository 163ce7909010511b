"""Limits the tunnels of a session."""

from __future__ import annotations

from broker.tunnels.closing import TunnelCloser
from broker.tunnels.errors import TooManyTunnels
from broker.tunnels.model import RATE_LIMITED, ClosedBy, Tunnel, TunnelState
from broker.tunnels.ports import TunnelIndex, TunnelQuery

SESSION_TUNNELS_MAX = 5


class SessionTunnelLimit:
    """Limits each session to `SESSION_TUNNELS_MAX` tunnels. Each method raises Unavailable."""

    def __init__(self, *, index: TunnelIndex, closer: TunnelCloser) -> None:
        self._index = index
        self._closer = closer

    async def check(self, tunnel: Tunnel) -> Tunnel | None:
        """Return the tunnel that has to end for a new one of the same session; None for none.

        It is the one that has been away longest. Raises TooManyTunnels if none is away.
        """
        if not tunnel.session:
            return None
        page = await self._index.find(TunnelQuery(tunnel.owner, person=tunnel.person))
        others = [one for one in page.tunnels if one.session == tunnel.session]
        if len(others) < SESSION_TUNNELS_MAX:
            return None
        away = [one for one in others if one.state is TunnelState.AWAY]
        if not away:
            raise TooManyTunnels
        return min(away, key=lambda one: one.due_at)

    async def make_room(self, tunnel: Tunnel) -> None:
        """End the tunnel that has to end. Raises TooManyTunnels."""
        surplus = await self.check(tunnel)
        if surplus is not None:
            await self._closer.end(surplus, RATE_LIMITED, ClosedBy.SERVER)
