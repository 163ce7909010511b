"""The apps of the settings and of the records."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from broker.apps.model import App
from broker.apps.ports import Apps, WaferKeys, WebhookSecrets


class AppRegistry:
    """Reads apps from the settings first, then from the records.

    apps: of the settings.  recorded: those of the records, if there are records.
    """

    def __init__(self, apps: Iterable[App], recorded: Apps | None = None) -> None:
        self._apps = {app.id: app for app in apps}
        self._recorded = recorded
        self._settings_origins = frozenset().union(*(app.origins for app in self._apps.values()))
        self._recorded_origins: frozenset[str] = frozenset()
        self._origins = self._settings_origins

    def get(self, app_id: str) -> App | None:
        app = self._apps.get(app_id)
        if app is None and self._recorded is not None:
            return self._recorded.get(app_id)
        return app

    def with_pool(self) -> Collection[App]:
        recorded = self._recorded.with_pool() if self._recorded is not None else ()
        apps = {app.id: app for app in recorded} | self._apps
        return [app for app in apps.values() if app.code_source == "pool"]

    def origins(self) -> frozenset[str]:
        """Return the union of both sets, computed again only if the records' set changed."""
        if self._recorded is None:
            return self._settings_origins
        recorded = self._recorded.origins()
        if recorded is not self._recorded_origins:
            self._recorded_origins, self._origins = recorded, self._settings_origins | recorded
        return self._origins


class WebhookSecretRegistry:
    """Reads webhook secrets from the settings first, then from the records.

    secrets: of apps of the settings, by id.  recorded: those of the records.
    """

    def __init__(self, secrets: Mapping[str, Sequence[str]], recorded: WebhookSecrets) -> None:
        self._secrets = secrets
        self._recorded = recorded

    def webhook_secrets(self, app_id: str) -> Sequence[str]:
        return self._secrets.get(app_id) or self._recorded.webhook_secrets(app_id)


class WaferKeyRegistry:
    """Reads the keys of Wafer's signatures from the settings first, then from the records.

    keys: of apps of the settings, by id.  recorded: those of the records.
    """

    def __init__(self, keys: Mapping[str, str], recorded: WaferKeys) -> None:
        self._keys = keys
        self._recorded = recorded

    def wafer_key(self, app_id: str) -> str | None:
        return self._keys.get(app_id) or self._recorded.wafer_key(app_id)
