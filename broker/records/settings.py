"""Apps that the settings name, with nothing written down anywhere else."""

from __future__ import annotations

from collections.abc import Iterable

from broker.records import App


class SettingsApps:
    def __init__(self, apps: Iterable[App]) -> None:
        self._apps = {app.id: app for app in apps}
        self._origins = frozenset().union(*(app.origins for app in self._apps.values()))

    async def get(self, app_id: str) -> App | None:
        return self._apps.get(app_id)

    def origins(self) -> frozenset[str]:
        return self._origins
