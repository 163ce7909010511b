"""Mounts login: the browsers' namespace, the phone's endpoints and the device flow.

A process serves the roles in the setting `roles`, so sockets and logic can run in different
processes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Protocol

from broker.apps.client_authentication import CLIENT, ClientAuthenticator
from broker.apps.ports import Apps
from broker.infrastructure.api.authorization import OPERATOR, OperatorAuthenticator
from broker.infrastructure.api.client_address import ClientAddresses
from broker.infrastructure.api.endpoint import bind_endpoints
from broker.infrastructure.api.event import bind_events
from broker.infrastructure.api.mounted import Mounted, Resource
from broker.infrastructure.api.rate_limit import RateLimiter
from broker.infrastructure.api.settings import APISettings
from broker.infrastructure.background import BackgroundTask
from broker.infrastructure.clock import Clock
from broker.infrastructure.coordination import Bus
from broker.infrastructure.observability.instance_report import InstanceReport
from broker.infrastructure.runtime.drain import DrainGate
from broker.infrastructure.runtime.lifecycle import do_nothing
from broker.infrastructure.runtime.settings import ServerSettings
from broker.infrastructure.settings import Settings
from broker.infrastructure.transport.socketio.server import SocketIOServer
from broker.login import admin_api, browser_api, device_api, device_page_api, phone_api
from broker.login.admin_api import LoginsAdminAPI
from broker.login.browser_api import LoginBrowserAPI
from broker.login.device_api import LoginDeviceAPI, OpenIDTokens
from broker.login.device_page_api import DEVICE_PAGE_PATH, DevicePageAPI
from broker.login.limits import LoginLimits
from broker.login.lister import LoginLister
from broker.login.phone_api import REPORTS_PER_MINUTE, LoginPhoneAPI
from broker.login.ports import AuditLog, KnownBrowsers, LoginReports, SignInEnds
from broker.login.reports import LoginReporter
from broker.login.services import LoginServices
from broker.login.settings import LoginSettings
from broker.sessions.authentication import PHONE, PhoneAuthenticator


class LoginContext(Protocol):
    @property
    def settings(self) -> Settings: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def apps(self) -> Apps: ...
    @property
    def login_services(self) -> LoginServices: ...
    @property
    def drain(self) -> DrainGate: ...
    @property
    def failures(self) -> RateLimiter: ...
    @property
    def phone_authenticator(self) -> PhoneAuthenticator: ...
    @property
    def openid_tokens(self) -> OpenIDTokens | None: ...
    @property
    def client_authenticator(self) -> ClientAuthenticator: ...
    @property
    def socket_server(self) -> SocketIOServer: ...
    @property
    def pictures_url(self) -> str: ...
    @property
    def addresses(self) -> ClientAddresses: ...
    @property
    def audit_log(self) -> AuditLog: ...
    @property
    def sign_in_ends(self) -> SignInEnds: ...
    @property
    def known_browsers(self) -> KnownBrowsers | None: ...
    @property
    def login_reports(self) -> LoginReports: ...
    @property
    def operators(self) -> OperatorAuthenticator | None: ...
    @property
    def bus(self) -> Bus: ...
    @property
    def other_instances(self) -> Callable[[], Collection[str]]: ...
    @property
    def report(self) -> InstanceReport: ...


def mount(context: LoginContext) -> Mounted:
    server = context.settings[ServerSettings]
    limits = LoginLimits(
        begins_per_minute=context.settings[APISettings].begins_per_minute,
        interval=context.settings[LoginSettings].interval,
        drain=context.drain,
    )
    parts = [MOUNT_ROLE[role](context, limits) for role in server.roles if role in MOUNT_ROLE]
    return Mounted.join([_mount_administration(context), *parts])


def _mount_administration(context: LoginContext) -> Mounted:
    if context.operators is None:
        return Mounted()
    services = context.login_services
    lister = LoginLister(
        lobby=services.lobby,
        bus=context.bus,
        others=context.other_instances,
        instance=context.settings[ServerSettings].instance,
    )
    api = LoginsAdminAPI(
        lister=lister,
        reader=services.reader,
        login_service=services.service,
        clock=context.clock,
    )
    operator = {OPERATOR: context.operators.authenticate}
    return Mounted(
        admin_routes=bind_endpoints(api, admin_api.ENDPOINTS, operator),
        notices=[lister.notice_handler()],
        resources=[Resource(do_nothing, lister.close)],
    )


def _mount_browsers(context: LoginContext, limits: LoginLimits) -> Mounted:
    lobby = context.login_services.lobby
    context.report.count("waiting", lobby.__len__)
    api = LoginBrowserAPI(
        server=context.socket_server,
        login_service=context.login_services.service,
        redeemer=context.login_services.redeemer,
        lobby=lobby,
        apps=context.apps,
        limits=limits,
        failures=context.failures,
        known_browsers=context.known_browsers,
        device_codes=context.login_services.device_codes,
        scanner_profiles=context.login_services.scanner_profiles,
        verification_uri=_verification_uri(context),
        clock=context.clock,
        interval=context.settings[LoginSettings].interval,
    )
    return Mounted(
        events=bind_events(api, browser_api.SOCKET_EVENTS),
        namespaces=[api.namespace()],
        tasks=[BackgroundTask("lobby", partial(lobby.run, api.push))],
        readiness=[lobby.unready_reason],
        notices=[lobby.notice_handler()],
    )


def _mount_phones(context: LoginContext, limits: LoginLimits) -> Mounted:
    api = LoginPhoneAPI(
        login_service=context.login_services.service,
        scanner=context.login_services.scanner,
        reporter=LoginReporter(
            reader=context.login_services.reader,
            writer=context.login_services.writer,
            apps=context.apps,
            audit_log=context.audit_log,
            sign_ins=context.sign_in_ends,
            reports=context.login_reports,
            clock=context.clock,
        ),
        report_limit=RateLimiter(REPORTS_PER_MINUTE),
        clock=context.clock,
    )
    authenticators = {PHONE: context.phone_authenticator.authenticate}
    return Mounted(
        routes=bind_endpoints(api, phone_api.ENDPOINTS, authenticators),
        events=bind_events(api, phone_api.SOCKET_EVENTS),
    )


def _verification_uri(context: LoginContext) -> str:
    return context.settings[ServerSettings].public_url + DEVICE_PAGE_PATH


def _device_api(context: LoginContext, limits: LoginLimits) -> LoginDeviceAPI:
    return LoginDeviceAPI(
        login_service=context.login_services.service,
        redeemer=context.login_services.redeemer,
        limits=limits,
        clock=context.clock,
        verification_uri=_verification_uri(context),
        device_codes=context.login_services.device_codes,
        scanner_profiles=context.login_services.scanner_profiles,
        interval=context.settings[LoginSettings].interval,
        openid_tokens=context.openid_tokens,
    )


def _mount_devices(context: LoginContext, limits: LoginLimits) -> Mounted:
    api = _device_api(context, limits)
    page = DevicePageAPI(
        device_codes=context.login_services.device_codes,
        addresses=context.addresses,
        pictures_url=context.pictures_url,
    )
    authenticators = {CLIENT: context.client_authenticator.authenticate}
    return Mounted(
        routes=[
            *bind_endpoints(api, device_api.ENDPOINTS, authenticators),
            *bind_endpoints(page, device_page_api.ENDPOINTS),
        ],
        grants=[api.grant()],
    )


def _mount_device_grant(context: LoginContext, limits: LoginLimits) -> Mounted:
    """A process with the token endpoint serves all grants."""
    return Mounted(grants=[_device_api(context, limits).grant()])


MOUNT_ROLE: Mapping[str, Callable[[LoginContext, LoginLimits], Mounted]] = {
    "browser": _mount_browsers,
    "phone": _mount_phones,
    "oauth": _mount_devices,
    "oidc": _mount_device_grant,
}
