"""Mounts the sessions of phones: their endpoints for phones and for apps' own servers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from broker.apps.authentication import SERVER, AppAuthenticator
from broker.apps.ports import Apps
from broker.infrastructure.api.authorization import OPERATOR, OperatorAuthenticator
from broker.infrastructure.api.endpoint import bind_endpoints
from broker.infrastructure.api.mounted import Mounted
from broker.infrastructure.api.rate_limit import RateLimiter
from broker.infrastructure.clock import Clock
from broker.infrastructure.runtime.settings import ServerSettings
from broker.infrastructure.settings import Settings
from broker.sessions import admin_api, phone_api, server_api
from broker.sessions.admin_api import SessionsAdminAPI
from broker.sessions.authentication import NEW_PHONE, PHONE, PhoneAuthenticator
from broker.sessions.limits import SessionLimits
from broker.sessions.phone_api import SessionPhoneAPI
from broker.sessions.server_api import SessionServerAPI
from broker.sessions.service import SessionService


class SessionsContext(Protocol):
    @property
    def settings(self) -> Settings: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def apps(self) -> Apps: ...
    @property
    def app_authenticator(self) -> AppAuthenticator: ...
    @property
    def session_service(self) -> SessionService: ...
    @property
    def session_limits(self) -> SessionLimits: ...
    @property
    def phone_authenticator(self) -> PhoneAuthenticator: ...
    @property
    def failures(self) -> RateLimiter: ...
    @property
    def operators(self) -> OperatorAuthenticator | None: ...


def mount(context: SessionsContext) -> Mounted:
    limits = context.session_limits
    roles = context.settings[ServerSettings].roles
    parts = [MOUNT_ROLE[role](context, limits) for role in roles if role in MOUNT_ROLE]
    return Mounted.join([_mount_administration(context), *parts])


def _mount_administration(context: SessionsContext) -> Mounted:
    if context.operators is None:
        return Mounted()
    api = SessionsAdminAPI(
        session_service=context.session_service, apps=context.apps, clock=context.clock
    )
    operator = {OPERATOR: context.operators.authenticate}
    return Mounted(admin_routes=bind_endpoints(api, admin_api.ENDPOINTS, operator))


def _mount_phones(context: SessionsContext, limits: SessionLimits) -> Mounted:
    api = SessionPhoneAPI(
        session_service=context.session_service,
        apps=context.apps,
        limits=limits,
        failures=context.failures,
        clock=context.clock,
    )
    authenticator = context.phone_authenticator
    authenticators = {PHONE: authenticator.authenticate, NEW_PHONE: authenticator.accept_new}
    return Mounted(
        routes=bind_endpoints(api, phone_api.ENDPOINTS, authenticators),
        namespaces=[authenticator.namespace()],
    )


def _mount_servers(context: SessionsContext, limits: SessionLimits) -> Mounted:
    api = SessionServerAPI(
        session_service=context.session_service, limits=limits, clock=context.clock
    )
    authenticators = {SERVER: context.app_authenticator.authenticate}
    return Mounted(routes=bind_endpoints(api, server_api.ENDPOINTS, authenticators))


MOUNT_ROLE: Mapping[str, Callable[[SessionsContext, SessionLimits], Mounted]] = {
    "phone": _mount_phones,
    "sessions": _mount_servers,
}
