"""Images of logins in memory."""

from __future__ import annotations

from broker.infrastructure.clock import Clock
from broker.login.model import Login
from broker.state.memory.expiring_map import ExpiringMap

IMAGES_MAX = 250
"""Images in memory. Each has at most 240 KB, so all of them have at most 60 MB."""


class MemoryImages:
    def __init__(self, clock: Clock, capacity: int = IMAGES_MAX) -> None:
        self._images: ExpiringMap[str] = ExpiringMap(clock, capacity, evict_oldest=True)

    async def put(self, login: Login, url: str) -> None:
        self._images.put(login.id, url, login.expires_at)

    async def get(self, login: Login) -> str | None:
        return self._images.get(login.id)
