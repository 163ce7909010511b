"""Mounts the registration of users, and their administration if the directory is the records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from broker.apps.ports import Apps
from broker.identity.ports import Directory
from broker.identity.registry import ProviderRegistry
from broker.infrastructure.api.authorization import OPERATOR, OperatorAuthenticator
from broker.infrastructure.api.endpoint import bind_endpoints
from broker.infrastructure.api.event import bind_events
from broker.infrastructure.api.mounted import Mounted
from broker.infrastructure.api.rate_limit import RateLimiter
from broker.infrastructure.runtime.settings import ServerSettings
from broker.infrastructure.settings import Settings
from broker.sessions.authentication import PHONE, PhoneAuthenticator
from broker.users import admin_api, phone_api, phone_number_api
from broker.users.admin_api import UsersAdminAPI
from broker.users.invitation_codes import InvitationCodes
from broker.users.phone_api import REGISTRATIONS_PER_MINUTE, UserPhoneAPI
from broker.users.phone_number_api import PHONE_NUMBERS_PER_MINUTE, PhoneNumberAPI
from broker.users.ports import IdentityAdmin, PhoneNumbers, UserAdmin, UserRegistration


class UsersContext(Protocol):
    @property
    def settings(self) -> Settings: ...
    @property
    def phone_authenticator(self) -> PhoneAuthenticator: ...
    @property
    def user_registration(self) -> UserRegistration: ...
    @property
    def phone_numbers(self) -> PhoneNumbers | None: ...
    @property
    def apps(self) -> Apps: ...
    @property
    def providers(self) -> ProviderRegistry: ...
    @property
    def recent_directory(self) -> Directory: ...
    @property
    def operators(self) -> OperatorAuthenticator | None: ...
    @property
    def are_users_recorded(self) -> bool: ...
    @property
    def user_admin(self) -> UserAdmin: ...
    @property
    def identity_admin(self) -> IdentityAdmin: ...
    @property
    def records_problem(self) -> Callable[[], str | None]: ...


def mount(context: UsersContext) -> Mounted:
    return Mounted.join([_mount_phones(context), _mount_administration(context)])


def _mount_phones(context: UsersContext) -> Mounted:
    if "phone" not in context.settings[ServerSettings].roles:
        return Mounted()
    api = UserPhoneAPI(
        registration=context.user_registration, limit=RateLimiter(REGISTRATIONS_PER_MINUTE)
    )
    phone_number = PhoneNumberAPI(
        phone_numbers=context.phone_numbers,
        directory=context.recent_directory,
        providers=context.providers,
        apps=context.apps,
        limit=RateLimiter(PHONE_NUMBERS_PER_MINUTE),
    )
    authenticators = {PHONE: context.phone_authenticator.authenticate}
    return Mounted(
        routes=[
            *bind_endpoints(api, phone_api.ENDPOINTS, authenticators),
            *bind_endpoints(phone_number, phone_number_api.ENDPOINTS, authenticators),
        ],
        events=bind_events(api, phone_api.SOCKET_EVENTS),
    )


def _mount_administration(context: UsersContext) -> Mounted:
    if not context.are_users_recorded:
        return Mounted()
    readiness = [context.records_problem]
    if context.operators is None:
        return Mounted(readiness=readiness)
    api = UsersAdminAPI(
        user_admin=context.user_admin,
        identity_admin=context.identity_admin,
        codes=InvitationCodes(apps=context.apps, providers=context.providers),
    )
    operator = {OPERATOR: context.operators.authenticate}
    routes = bind_endpoints(api, admin_api.ENDPOINTS, operator)
    return Mounted(admin_routes=routes, readiness=readiness)
