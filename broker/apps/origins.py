"""The Origins that may connect as an app."""

from __future__ import annotations

import structlog

from broker.apps.errors import OriginNotAllowed, UnknownApp
from broker.apps.model import App
from broker.apps.ports import Apps
from broker.infrastructure.api.schema import sanitize_text

log = structlog.get_logger()


class OriginPolicy:
    """Says whether pages of an Origin may come at all: whether any app allows it.

    Each Origin that is turned away is logged once, for the site's developer
    who forgot to name it; a made-up crowd of them is not.
    """

    REMEMBERED = 100

    def __init__(self, apps: Apps) -> None:
        self._apps = apps
        self._refused: set[str] = set()

    def __call__(self, origin: str) -> bool:
        allowed = origin in self._apps.origins()
        if not allowed and origin not in self._refused and len(self._refused) < self.REMEMBERED:
            self._refused.add(origin)
            log.warning("no app allows this Origin", origin=sanitize_text(origin, 128))
        return allowed


async def authorize_origin(apps: Apps, app_id: str, origin: str | None) -> App:
    """The app, if pages of `normalize_origin` may use it; a caller that is no page sends no Origin.

    Raises UnknownApp or OriginNotAllowed.
    """
    app = await apps.get(app_id)
    if app is None:
        raise UnknownApp
    if origin is not None and origin not in app.origins:
        raise OriginNotAllowed
    return app
