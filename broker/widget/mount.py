"""Mounts the widget and the index page."""

from __future__ import annotations

from typing import Protocol

from broker.infrastructure.api.endpoint import bind_endpoints
from broker.infrastructure.api.mounted import Mounted
from broker.infrastructure.runtime.settings import ServerSettings
from broker.infrastructure.settings import Settings
from broker.widget.api import ENDPOINTS, WidgetAPI


class WidgetContext(Protocol):
    @property
    def settings(self) -> Settings: ...


def mount(context: WidgetContext) -> Mounted:
    public_url = context.settings[ServerSettings].public_url
    return Mounted(routes=bind_endpoints(WidgetAPI(public_url=public_url), ENDPOINTS))
