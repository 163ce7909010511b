"""Mounts the admin page, the settings and the events, if an admin token is set."""

from __future__ import annotations

from typing import Protocol

from broker.admin import config_api, events_api, page_api, reference_api
from broker.admin.config_api import ConfigAPI
from broker.admin.events_api import EventsAPI
from broker.admin.page_api import AdminPageAPI
from broker.admin.reference_api import ReferencePageAPI
from broker.admin.settings import AdminSettings
from broker.apps.model import ADMIN_APP
from broker.infrastructure.api.authorization import OPERATOR, OperatorAuthenticator
from broker.infrastructure.api.endpoint import bind_endpoints
from broker.infrastructure.api.mounted import Mounted
from broker.infrastructure.observability.feed import Feed
from broker.infrastructure.runtime.settings import ServerSettings
from broker.infrastructure.settings import Settings


class AdminContext(Protocol):
    @property
    def settings(self) -> Settings: ...
    @property
    def feed(self) -> Feed: ...
    @property
    def operators(self) -> OperatorAuthenticator | None: ...


def mount(context: AdminContext) -> Mounted:
    if context.operators is None:
        return Mounted()
    operator = {OPERATOR: context.operators.authenticate}
    settings = context.settings[AdminSettings]
    page = AdminPageAPI(
        public_url=context.settings[ServerSettings].public_url,
        admin_url=settings.admin_url or "",
        client_id=ADMIN_APP if settings.admin_subjects else "",
    )
    return Mounted(
        admin_routes=[
            *bind_endpoints(page, page_api.ENDPOINTS),
            *bind_endpoints(ReferencePageAPI(), reference_api.ENDPOINTS),
            *bind_endpoints(ConfigAPI(context.settings), config_api.ENDPOINTS, operator),
            *bind_endpoints(EventsAPI(context.feed), events_api.ENDPOINTS, operator),
        ],
        close_streams=[context.feed.close],
    )
