"""Notifies instances of the news of their tunnels."""

from __future__ import annotations

import structlog

from broker.errors import Unavailable
from broker.infrastructure.coordination import Bus, Notice
from broker.tunnels.ports import TUNNEL_NEWS

log = structlog.get_logger()


class NewsSender:
    """Sends notices that name a tunnel. A lost notice delays its news by at most 5 s."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def send(self, instance: str, tunnel_id: str) -> None:
        """Notify `instance`. Does nothing if it is empty, and raises no error."""
        if not instance:
            return
        try:
            await self._bus.publish(instance, Notice(TUNNEL_NEWS, tunnel_id))
        except Unavailable as error:
            log.warning("notice not sent", notice=TUNNEL_NEWS, reason=str(error))
