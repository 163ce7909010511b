"""Mounts the administration of users, if logins look users up in the records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from broker.infrastructure.api.authorization import OPERATOR, admin_token_authenticator
from broker.infrastructure.api.endpoint import bind_endpoints
from broker.infrastructure.api.mounted import Mounted
from broker.users.admin_api import ENDPOINTS, UsersAdminAPI
from broker.users.ports import IdentityAdmin, UserAdmin


class UsersContext(Protocol):
    @property
    def admin_token(self) -> str | None: ...
    @property
    def are_users_recorded(self) -> bool: ...
    @property
    def user_admin(self) -> UserAdmin: ...
    @property
    def identity_admin(self) -> IdentityAdmin: ...
    @property
    def records_problem(self) -> Callable[[], str | None]: ...


def mount(context: UsersContext) -> Mounted:
    if not context.are_users_recorded:
        return Mounted()
    readiness = [context.records_problem]
    if context.admin_token is None:
        return Mounted(readiness=readiness)
    api = UsersAdminAPI(user_admin=context.user_admin, identity_admin=context.identity_admin)
    operator = {OPERATOR: admin_token_authenticator(context.admin_token)}
    return Mounted(admin_routes=bind_endpoints(api, ENDPOINTS, operator), readiness=readiness)
