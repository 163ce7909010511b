"""User codes in memory."""

from __future__ import annotations

from broker.infrastructure.clock import Clock
from broker.login.model import Login
from broker.login.ports import LOGIN_RETENTION
from broker.state.memory.expiring_map import CAPACITY, ExpiringMap


class MemoryUserCodes:
    def __init__(self, clock: Clock, capacity: int = CAPACITY) -> None:
        self._codes: ExpiringMap[str] = ExpiringMap(clock, capacity)

    async def claim(self, code: str, login: Login) -> bool:
        owner = self._codes.get(code)
        if owner is None:
            self._codes.put(code, login.id, login.expires_at + LOGIN_RETENTION)
        return owner in (None, login.id)

    async def extend(self, code: str, login: Login) -> None:
        if self._codes.get(code) == login.id:
            self._codes.put(code, login.id, login.expires_at + LOGIN_RETENTION)

    async def find(self, code: str) -> str | None:
        return self._codes.get(code)
