"""Mounts login: the browsers' namespace, the phone's endpoints and the device flow.

A process serves the roles in the setting `roles`, so sockets and logic can run in different
processes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

from broker.apps.ports import Apps
from broker.infrastructure.api.client_address import ClientAddresses
from broker.infrastructure.api.mounted import Mounted
from broker.infrastructure.api.rate_limit import RateLimiter
from broker.infrastructure.api.settings import APISettings
from broker.infrastructure.background import BackgroundTask
from broker.infrastructure.clock import Clock
from broker.infrastructure.coordination import Bus
from broker.infrastructure.runtime.drain import DrainGate
from broker.infrastructure.runtime.settings import ServerSettings
from broker.infrastructure.settings import Settings
from broker.infrastructure.transport.socketio.server import SocketIOServer
from broker.login.browser_api import LoginBrowserAPI
from broker.login.device_api import LoginDeviceAPI
from broker.login.discovery_api import metadata_routes
from broker.login.limits import LoginLimits
from broker.login.lobby import Lobby
from broker.login.phone_api import LoginPhoneAPI
from broker.login.services import LoginServices
from broker.login.settings import LoginSettings
from broker.sessions.limits import SessionLimits
from broker.sessions.service import SessionService
from broker.users.phone_api import REGISTRATIONS_PER_MINUTE
from broker.users.ports import UserRegistration


class LoginContext(Protocol):
    @property
    def settings(self) -> Settings: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def bus(self) -> Bus: ...
    @property
    def apps(self) -> Apps: ...
    @property
    def login_services(self) -> LoginServices: ...
    @property
    def drain(self) -> DrainGate: ...
    @property
    def session_service(self) -> SessionService: ...
    @property
    def session_limits(self) -> SessionLimits: ...
    @property
    def failures(self) -> RateLimiter: ...
    @property
    def addresses(self) -> ClientAddresses: ...
    @property
    def socket_server(self) -> SocketIOServer: ...
    @property
    def user_registration(self) -> UserRegistration: ...
    @property
    def pictures_url(self) -> str: ...


def mount(context: LoginContext) -> Mounted:
    server = context.settings[ServerSettings]
    limits = LoginLimits(
        begins_per_minute=context.settings[APISettings].begins_per_minute,
        interval=context.settings[LoginSettings].interval,
        drain=context.drain,
    )
    parts = [MOUNT_ROLE[role](context, limits) for role in server.roles if role in MOUNT_ROLE]
    metadata = Mounted(routes=metadata_routes(server.public_url))
    return Mounted.join([metadata, *parts])


def _mount_browsers(context: LoginContext, limits: LoginLimits) -> Mounted:
    lobby = Lobby(
        bus=context.bus,
        reader=context.login_services.reader,
        clock=context.clock,
        instance=context.settings[ServerSettings].instance,
    )
    api = LoginBrowserAPI(
        server=context.socket_server,
        flow=context.login_services.service,
        redeemer=context.login_services.redeemer,
        lobby=lobby,
        apps=context.apps,
        limits=limits,
        failures=context.failures,
        clock=context.clock,
        interval=context.settings[LoginSettings].interval,
    )
    task = BackgroundTask("lobby", partial(lobby.run, api.push))
    return Mounted(tasks=[task], readiness=[lobby.unready_reason])


def _mount_phones(context: LoginContext, limits: LoginLimits) -> Mounted:
    api = LoginPhoneAPI(
        server=context.socket_server,
        flow=context.login_services.service,
        sessions=context.session_service,
        apps=context.apps,
        people=context.user_registration,
        session_limits=context.session_limits,
        registrations=RateLimiter(REGISTRATIONS_PER_MINUTE),
        failures=context.failures,
        addresses=context.addresses,
        clock=context.clock,
    )
    return Mounted(routes=api.routes())


def _mount_devices(context: LoginContext, limits: LoginLimits) -> Mounted:
    api = LoginDeviceAPI(
        flow=context.login_services.service,
        redeemer=context.login_services.redeemer,
        apps=context.apps,
        limits=limits,
        failures=context.failures,
        addresses=context.addresses,
        clock=context.clock,
        public_url=context.settings[ServerSettings].public_url,
        interval=context.settings[LoginSettings].interval,
        pictures_url=context.pictures_url,
    )
    return Mounted(routes=api.routes())


MOUNT_ROLE: Mapping[str, Callable[[LoginContext, LoginLimits], Mounted]] = {
    "browser": _mount_browsers,
    "phone": _mount_phones,
    "oauth": _mount_devices,
}
