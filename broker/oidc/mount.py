"""Mounts the OpenID Connect provider: the role `oidc`, and the token endpoint for all grants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple, Protocol

import structlog

from broker.apps.client_authentication import CLIENT, ClientAuthenticator
from broker.apps.ports import Apps
from broker.infrastructure.api.authorization import OPERATOR, OperatorAuthenticator
from broker.infrastructure.api.client_address import ClientAddresses
from broker.infrastructure.api.endpoint import (
    Auth,
    Authenticator,
    Route,
    bind_endpoints,
    without_authentication,
)
from broker.infrastructure.api.mounted import Mounted, Resource, TokenGrant
from broker.infrastructure.api.rate_limit import RateLimiter
from broker.infrastructure.api.settings import APISettings
from broker.infrastructure.background import BackgroundTask
from broker.infrastructure.clock import Clock
from broker.infrastructure.retries import RetryWorker
from broker.infrastructure.runtime.drain import DrainGate
from broker.infrastructure.runtime.settings import ServerSettings
from broker.infrastructure.settings import Settings
from broker.oidc import (
    admin_api,
    app_events,
    authorize_api,
    introspection_api,
    login_api,
    logout_api,
    logouts,
    par_api,
    phone_api,
    revocation_api,
    token_api,
    userinfo_api,
)
from broker.oidc.admin_api import SignInsAdminAPI
from broker.oidc.authorize_api import AuthorizeAPI, RequestFactory
from broker.oidc.cookies import ProviderCookies
from broker.oidc.discovery_api import DiscoveryAPI
from broker.oidc.ended_subjects import EndedSubjectWatch
from broker.oidc.introspection_api import IntrospectionAPI
from broker.oidc.login_api import LoginFormAPI
from broker.oidc.logout_api import LogoutAPI
from broker.oidc.pages import ProviderPages
from broker.oidc.par_api import PushedRequestAPI
from broker.oidc.phone_api import SignInsPhoneAPI
from broker.oidc.ports import AuthorizationRequests
from broker.oidc.redirects import AppRedirects
from broker.oidc.revocation_api import RevocationAPI
from broker.oidc.services import OIDCServices
from broker.oidc.settings import OIDCSettings
from broker.oidc.token_api import TokenAPI
from broker.oidc.userinfo_api import ACCESS_TOKEN, UserinfoAPI
from broker.sessions.authentication import PHONE, PhoneAuthenticator
from broker.sessions.service import SessionService
from broker.tokens.issuer import TokenIssuer
from broker.users.ports import EndedSubjectLog

log = structlog.get_logger()

ROLE, PHONE_ROLE = "oidc", "phone"

RETRY_DELAYS = (1.0, 10.0, 60.0, 600.0)
"""Seconds before the second, third, fourth and fifth attempt of a call to an app."""

APP_BEGINS_FACTOR = 10
"""Pushed requests of one app for each begin of an address: they come from one server."""

TOKEN_ROLES = frozenset({"oauth", "oidc"})
"""A process with one of these roles serves the token endpoint, with all grants."""


class OIDCContext(Protocol):
    @property
    def retries(self) -> RetryWorker: ...
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
    def clock(self) -> Clock: ...
    @property
    def drain(self) -> DrainGate: ...
    @property
    def addresses(self) -> ClientAddresses: ...
    @property
    def pictures_url(self) -> str: ...
    @property
    def phone_page_url(self) -> str: ...
    @property
    def authorization_requests(self) -> AuthorizationRequests: ...
    @property
    def ended_subjects(self) -> EndedSubjectLog: ...
    @property
    def client_authenticator(self) -> ClientAuthenticator: ...
    @property
    def phone_authenticator(self) -> PhoneAuthenticator: ...
    @property
    def session_service(self) -> SessionService: ...
    @property
    def operators(self) -> OperatorAuthenticator | None: ...


def mount(context: OIDCContext) -> Mounted:
    """Mount the metadata, and the endpoints of the role `oidc`."""
    server = context.settings[ServerSettings]
    reason = server.insecure_reason()
    if reason:
        log.info("oidc disabled", reason=reason)
    discovery = DiscoveryAPI(public_url=server.public_url, has_openid=reason is None)
    parts = [Mounted(routes=discovery.routes()), _mount_administration(context)]
    if reason is None and TOKEN_ROLES & {*server.roles}:
        services = context.oidc_services
        grants = [services.code_exchange.grant(), services.refresh_exchange.grant()]
        parts.append(Mounted(grants=grants))
    if ROLE in server.roles:
        parts.append(_mount_provider(context))
    if PHONE_ROLE in server.roles:
        parts.append(_mount_phones(context))
    return Mounted.join(parts)


def _mount_administration(context: OIDCContext) -> Mounted:
    if context.operators is None:
        return Mounted()
    api = SignInsAdminAPI(sign_ins=context.oidc_services.sign_ins)
    operator = {OPERATOR: context.operators.authenticate}
    return Mounted(admin_routes=bind_endpoints(api, admin_api.ENDPOINTS, operator))


def mount_tokens(context: OIDCContext, grants: Sequence[TokenGrant]) -> Mounted:
    """Mount the token endpoint, with the grants of all features."""
    if not TOKEN_ROLES & {*context.settings[ServerSettings].roles}:
        return Mounted()
    api = TokenAPI(grants=grants, failures=context.failures)
    return Mounted(routes=bind_endpoints(api, token_api.ENDPOINTS, _authenticators(context)))


def _mount_provider(context: OIDCContext) -> Mounted:
    services = context.oidc_services
    end_all = partial(services.sign_ins.end_all, reason="user ended")
    context.retries.handle(logouts.KIND, services.logouts.attempt, RETRY_DELAYS)
    context.retries.handle(app_events.KIND, services.app_events.attempt, RETRY_DELAYS)
    watch = EndedSubjectWatch(context.ended_subjects, end_all)
    return Mounted(
        routes=[*_token_routes(context, services), *_page_routes(context, services)],
        tasks=[
            BackgroundTask("ended subjects", watch.run),
        ],
        resources=[Resource(services.site_client.open, services.site_client.close)],
    )


def _mount_phones(context: OIDCContext) -> Mounted:
    api = SignInsPhoneAPI(
        subjects=context.session_service,
        sign_ins=context.oidc_services.sign_ins,
        apps=context.apps,
    )
    authenticators = {PHONE: context.phone_authenticator.authenticate}
    return Mounted(routes=bind_endpoints(api, phone_api.ENDPOINTS, authenticators))


def _token_routes(context: OIDCContext, services: OIDCServices) -> list[Route]:
    """Return the routes that apps call with tokens."""
    issuer, families = context.token_issuer, services.families
    refresh_tokens = services.refresh_tokens
    authenticators = _authenticators(context)
    userinfo = UserinfoAPI(
        issuer=issuer, families=families, claims=services.claims, apps=context.apps
    )
    introspection = IntrospectionAPI(
        issuer=issuer, families=families, refresh_tokens=refresh_tokens
    )
    revocation = RevocationAPI(issuer=issuer, families=families, refresh_tokens=refresh_tokens)
    return [
        *bind_endpoints(userinfo, userinfo_api.ENDPOINTS, authenticators),
        *bind_endpoints(introspection, introspection_api.ENDPOINTS, authenticators),
        *bind_endpoints(revocation, revocation_api.ENDPOINTS, authenticators),
    ]


class _PageParts(NamedTuple):
    """Parts that the endpoints for browsers share."""

    public_url: str
    cookies: ProviderCookies
    pages: ProviderPages
    redirects: AppRedirects
    factory: RequestFactory


def _page_routes(context: OIDCContext, services: OIDCServices) -> list[Route]:
    """Return the routes that browsers open, and the one to which apps push their requests."""
    parts = _page_parts(context)
    begins_per_minute = context.settings[APISettings].begins_per_minute
    begins = RateLimiter(begins_per_minute)
    pushed = PushedRequestAPI(
        requests=context.authorization_requests,
        factory=parts.factory,
        begins=RateLimiter(begins_per_minute * APP_BEGINS_FACTOR),
        anonymous_begins=begins,
        drain=context.drain,
    )
    authorize = _authorize_api(context, services, parts, begins)
    return [
        *bind_endpoints(authorize, authorize_api.ENDPOINTS),
        *bind_endpoints(pushed, par_api.ENDPOINTS, _authenticators(context)),
        *bind_endpoints(_login_api(context, services, parts), login_api.ENDPOINTS),
        *bind_endpoints(_logout_api(context, services, parts), logout_api.ENDPOINTS),
    ]


def _page_parts(context: OIDCContext) -> _PageParts:
    public_url = context.settings[ServerSettings].public_url
    group = context.settings[OIDCSettings]
    cookies = ProviderCookies(
        is_secure=public_url.startswith("https://"),
        remember_for=group.signin_lifetime if group.signin_remember else None,
    )
    pages = ProviderPages(
        public_url=public_url,
        pictures_url=context.pictures_url,
        phone_page_url=context.phone_page_url,
    )
    redirects = AppRedirects(issuer=public_url, pages=pages)
    factory = RequestFactory(issuer=context.token_issuer, clock=context.clock)
    return _PageParts(public_url, cookies, pages, redirects, factory)


def _authorize_api(
    context: OIDCContext, services: OIDCServices, parts: _PageParts, begins: RateLimiter
) -> AuthorizeAPI:
    return AuthorizeAPI(
        apps=context.apps,
        requests=context.authorization_requests,
        factory=parts.factory,
        service=services.authorization,
        sign_ins=services.browser_sign_ins,
        cookies=parts.cookies,
        pages=parts.pages,
        redirects=parts.redirects,
        begins=begins,
        addresses=context.addresses,
        drain=context.drain,
        clock=context.clock,
        public_url=parts.public_url,
    )


def _login_api(context: OIDCContext, services: OIDCServices, parts: _PageParts) -> LoginFormAPI:
    return LoginFormAPI(
        known_browsers=services.known_browsers,
        apps=context.apps,
        requests=context.authorization_requests,
        service=services.authorization,
        sign_ins=services.browser_sign_ins,
        cookies=parts.cookies,
        pages=parts.pages,
        redirects=parts.redirects,
        failures=context.failures,
        addresses=context.addresses,
        public_url=parts.public_url,
    )


def _logout_api(context: OIDCContext, services: OIDCServices, parts: _PageParts) -> LogoutAPI:
    return LogoutAPI(
        apps=context.apps,
        issuer=context.token_issuer,
        sign_in_service=services.sign_ins,
        sign_ins=services.browser_sign_ins,
        cookies=parts.cookies,
        pages=parts.pages,
        public_url=parts.public_url,
    )


def _authenticators(context: OIDCContext) -> Mapping[Auth, Authenticator]:
    return {
        CLIENT: context.client_authenticator.authenticate,
        ACCESS_TOKEN: without_authentication,  # the handler verifies it
    }
