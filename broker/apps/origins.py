"""The Origins that may connect as an app."""

from __future__ import annotations

import structlog

from broker.apps.errors import OriginNotAllowed, UnknownApp
from broker.apps.model import App
from broker.apps.ports import Apps
from broker.infrastructure.api.schema import sanitize_text

log = structlog.get_logger()


class OriginPolicy:
    """Returns whether any app allows an Origin.

    Each refused Origin is logged once, so that a site's developer finds a missing setting.
    At most `LOGGED_MAX` are logged, so that made-up Origins do not flood the log.
    """

    LOGGED_MAX = 100

    def __init__(self, apps: Apps) -> None:
        self._apps = apps
        self._refused: set[str] = set()

    def __call__(self, origin: str) -> bool:
        allowed = origin in self._apps.origins()
        if not allowed and origin not in self._refused and len(self._refused) < self.LOGGED_MAX:
            self._refused.add(origin)
            log.warning("origin not allowed", origin=sanitize_text(origin, 128))
        return allowed


def authorize_origin(apps: Apps, app_id: str, origin: str | None) -> App:
    """Return the app if it allows `origin`, or if `origin` is None (not a page).

    Raises UnknownApp or OriginNotAllowed.
    """
    app = apps.get(app_id)
    if app is None:
        raise UnknownApp(app_id)
    if origin is not None and origin not in app.origins:
        raise OriginNotAllowed
    return app
