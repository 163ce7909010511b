"""Mounts the endpoints by which an app's servers use sessions."""

from __future__ import annotations

from typing import Protocol

from broker.apps.ports import Apps, AppSecrets
from broker.infrastructure.api.client_address import ClientAddresses
from broker.infrastructure.api.mounted import Mounted
from broker.infrastructure.api.rate_limit import RateLimiter
from broker.infrastructure.clock import Clock
from broker.infrastructure.runtime.settings import ServerSettings
from broker.infrastructure.settings import Settings
from broker.sessions.limits import SessionLimits
from broker.sessions.server_api import SessionServerAPI
from broker.sessions.service import SessionService


class SessionsContext(Protocol):
    @property
    def settings(self) -> Settings: ...
    @property
    def admin_token(self) -> str | None: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def apps(self) -> Apps: ...
    @property
    def app_secrets(self) -> AppSecrets: ...
    @property
    def session_service(self) -> SessionService: ...
    @property
    def session_limits(self) -> SessionLimits: ...
    @property
    def failures(self) -> RateLimiter: ...
    @property
    def addresses(self) -> ClientAddresses: ...


def mount(context: SessionsContext) -> Mounted:
    if "sessions" not in context.settings[ServerSettings].roles:
        return Mounted()
    api = SessionServerAPI(
        sessions=context.session_service,
        apps=context.apps,
        secrets=context.app_secrets,
        limits=context.session_limits,
        failures=context.failures,
        addresses=context.addresses,
        clock=context.clock,
        admin_token=context.admin_token,
    )
    return Mounted(routes=api.routes())
