"""Logins in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from broker.infrastructure.clock import Clock
from broker.infrastructure.coordination import Notice
from broker.login.model import Login
from broker.login.ports import LOGIN_RETENTION, ChangedLogins, SwapResult
from broker.state.memory.expiring_map import CAPACITY, ExpiringMap


class MemoryLoginStore:
    def __init__(self, clock: Clock, capacity: int = CAPACITY) -> None:
        self._logins: ExpiringMap[Login] = ExpiringMap(clock, capacity)
        self._scenes: ExpiringMap[str] = ExpiringMap(clock, capacity)

    async def add(self, login: Login) -> None:
        end = login.expires_at + LOGIN_RETENTION
        self._logins.put(login.id, login, end)
        self._scenes.put(login.scene, login.id, end)

    async def get(self, login_id: str) -> Login | None:
        return self._logins.get(login_id)

    async def by_scene(self, scene: str) -> Login | None:
        login_id = self._scenes.get(scene)
        return None if login_id is None else self._logins.get(login_id)

    async def swap(self, before: Login, after: Login, notice: Notice | None = None) -> SwapResult:
        stored = self._logins.get(before.id)
        if stored is None or stored.version != before.version:
            return SwapResult.CONFLICT
        # A confirmed login may expire before its code. It is stored for as long as the code.
        end = max(before.expires_at, after.expires_at) + LOGIN_RETENTION
        self._logins.put(after.id, after, end)
        return SwapResult.STORED

    async def changed(self, known: Mapping[str, int]) -> dict[str, Login | None]:
        stored = {login_id: self._logins.get(login_id) for login_id in known}
        return {
            login_id: login
            for login_id, login in stored.items()
            if login is None or login.version != known[login_id]
        }

    async def take_changes(self, instance: str, shards: Sequence[str]) -> ChangedLogins:
        """Changes are not kept: reading all logins costs no request."""
        return ChangedLogins(ids=(), shards=shards)

    async def secure(self, login: Login) -> None:
        """Do nothing: there is no replica."""
