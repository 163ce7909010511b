"""Apps that the settings name, laid over those that are recorded."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from broker.apps.model import App
from broker.apps.ports import Apps


class AppRegistry:
    """recorded: the apps below; none where nothing is recorded."""

    def __init__(self, apps: Iterable[App], recorded: Apps | None = None) -> None:
        self._apps = {app.id: app for app in apps}
        self._recorded = recorded
        self._own_origins = frozenset().union(*(app.origins for app in self._apps.values()))
        self._below: frozenset[str] = frozenset()
        self._origins = self._own_origins

    async def get(self, app_id: str) -> App | None:
        own = self._apps.get(app_id)
        if own is None and self._recorded is not None:
            return await self._recorded.get(app_id)
        return own

    def with_pool(self) -> Collection[App]:
        below = self._recorded.with_pool() if self._recorded is not None else ()
        known = {app.id: app for app in below} | self._apps
        return [app for app in known.values() if app.code_source == "pool"]

    def origins(self) -> frozenset[str]:
        below = self._recorded.origins() if self._recorded is not None else self._below
        if below is not self._below:  # seldom, and every handshake asks
            self._below, self._origins = below, self._own_origins | below
        return self._origins
