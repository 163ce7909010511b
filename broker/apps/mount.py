"""Mounts the administration of apps, if an admin token is set."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from broker.apps.api import ENDPOINTS, AppsAPI
from broker.apps.ports import AppAdmin
from broker.infrastructure.api.authorization import OPERATOR, OperatorAuthenticator
from broker.infrastructure.api.endpoint import bind_endpoints
from broker.infrastructure.api.mounted import Mounted


class AppsContext(Protocol):
    @property
    def operators(self) -> OperatorAuthenticator | None: ...
    @property
    def app_admin(self) -> AppAdmin: ...
    @property
    def refresh_apps(self) -> Callable[[], Awaitable[None]]: ...


def mount(context: AppsContext) -> Mounted:
    if context.operators is None:
        return Mounted()
    api = AppsAPI(app_admin=context.app_admin, refresh=context.refresh_apps)
    operator = {OPERATOR: context.operators.authenticate}
    return Mounted(admin_routes=bind_endpoints(api, ENDPOINTS, operator))
