"""Mounts the OpenID Connect provider: the role `oidc`, and the token endpoint for all grants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import structlog

from broker.apps.client_authentication import CLIENT, ClientAuthenticator
from broker.apps.ports import Apps
from broker.infrastructure.api.endpoint import (
    Auth,
    Authenticator,
    Route,
    bind_endpoints,
    without_authentication,
)
from broker.infrastructure.api.mounted import Mounted, Resource, TokenGrant
from broker.infrastructure.api.rate_limit import RateLimiter
from broker.infrastructure.background import BackgroundTask
from broker.infrastructure.runtime.settings import ServerSettings
from broker.infrastructure.settings import Settings
from broker.oidc import introspection_api, revocation_api, token_api, userinfo_api
from broker.oidc.discovery_api import DiscoveryAPI
from broker.oidc.introspection_api import IntrospectionAPI
from broker.oidc.revocation_api import RevocationAPI
from broker.oidc.services import OIDCServices
from broker.oidc.token_api import TokenAPI
from broker.oidc.userinfo_api import ACCESS_TOKEN, UserinfoAPI
from broker.tokens.issuer import TokenIssuer

log = structlog.get_logger()

ROLE = "oidc"

TOKEN_ROLES = frozenset({"oauth", "oidc"})
"""A process with one of these roles serves the token endpoint, with all grants."""


class OIDCContext(Protocol):
    @property
    def settings(self) -> Settings: ...
    @property
    def apps(self) -> Apps: ...
    @property
    def failures(self) -> RateLimiter: ...
    @property
    def token_issuer(self) -> TokenIssuer: ...
    @property
    def oidc_services(self) -> OIDCServices: ...
    @property
    def client_authenticator(self) -> ClientAuthenticator: ...


def mount(context: OIDCContext) -> Mounted:
    """Mount the metadata, and the endpoints of the role `oidc`."""
    server = context.settings[ServerSettings]
    reason = server.insecure_reason()
    if reason:
        log.info("oidc disabled", reason=reason)
    discovery = DiscoveryAPI(public_url=server.public_url, has_openid=reason is None)
    parts = [Mounted(routes=discovery.routes())]
    if reason is None and TOKEN_ROLES & {*server.roles}:
        services = context.oidc_services
        grants = [services.code_exchange.grant(), services.refresh_exchange.grant()]
        parts.append(Mounted(grants=grants))
    if ROLE in server.roles:
        parts.append(_mount_provider(context))
    return Mounted.join(parts)


def mount_tokens(context: OIDCContext, grants: Sequence[TokenGrant]) -> Mounted:
    """Mount the token endpoint, with the grants of all features."""
    if not TOKEN_ROLES & {*context.settings[ServerSettings].roles}:
        return Mounted()
    api = TokenAPI(grants=grants, failures=context.failures)
    return Mounted(routes=bind_endpoints(api, token_api.ENDPOINTS, _authenticators(context)))


def _mount_provider(context: OIDCContext) -> Mounted:
    services = context.oidc_services
    return Mounted(
        routes=_routes(context, services),
        tasks=[BackgroundTask("deferred calls", services.deferred.run)],
        resources=[Resource(services.site_client.open, services.site_client.close)],
    )


def _routes(context: OIDCContext, services: OIDCServices) -> list[Route]:
    issuer, families = context.token_issuer, services.families
    userinfo = UserinfoAPI(
        issuer=issuer, families=families, claims=services.claims, apps=context.apps
    )
    introspection = IntrospectionAPI(
        issuer=issuer, families=families, refresh_tokens=services.refresh_tokens
    )
    revocation = RevocationAPI(
        issuer=issuer, families=families, refresh_tokens=services.refresh_tokens
    )
    authenticators = _authenticators(context)
    return [
        *bind_endpoints(userinfo, userinfo_api.ENDPOINTS, authenticators),
        *bind_endpoints(introspection, introspection_api.ENDPOINTS, authenticators),
        *bind_endpoints(revocation, revocation_api.ENDPOINTS, authenticators),
    ]


def _authenticators(context: OIDCContext) -> Mapping[Auth, Authenticator]:
    return {
        CLIENT: context.client_authenticator.authenticate,
        ACCESS_TOKEN: without_authentication,  # the handler verifies it
    }
