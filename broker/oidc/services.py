"""Creates the services of the OpenID Connect provider."""

from __future__ import annotations

from typing import NamedTuple

from broker.apps.ports import Apps, WebhookSecrets
from broker.audit.ports import AuditTrail
from broker.identity.ports import Directory
from broker.infrastructure.clock import Clock
from broker.infrastructure.crypto.sealing import SecretBox
from broker.infrastructure.observability.feed import Feed
from broker.infrastructure.outbound.webhook import SiteClient
from broker.infrastructure.retries import RetryWorker
from broker.login.delivery import Redeemer
from broker.oidc.access_grants import AccessGrants
from broker.oidc.app_events import AppEvents
from broker.oidc.authorization import AuthorizationService
from broker.oidc.browser_sign_ins import BrowserSignIns
from broker.oidc.claims import ClaimSource
from broker.oidc.device_grant import DeviceTokens
from broker.oidc.families import Families
from broker.oidc.grants import CodeExchange, FamilyLifetimes, RefreshExchange
from broker.oidc.known_browsers import KnownBrowserCookies
from broker.oidc.logouts import BackchannelLogouts
from broker.oidc.ports import AuthorizationRequests, Grants, ReuseLog, SignIns
from broker.oidc.refresh_tokens import RefreshTokens
from broker.oidc.sign_ins import SignInLifetimes, SignInService
from broker.oidc.tokens import TokenSigner
from broker.tokens.issuer import TokenIssuer


class OIDCServices(NamedTuple):
    """Services that share the stores of one state."""

    claims: ClaimSource
    families: Families
    refresh_tokens: RefreshTokens
    access_grants: AccessGrants
    sign_ins: SignInService
    logouts: BackchannelLogouts
    app_events: AppEvents
    site_client: SiteClient
    code_exchange: CodeExchange
    refresh_exchange: RefreshExchange
    device_tokens: DeviceTokens
    browser_sign_ins: BrowserSignIns
    authorization: AuthorizationService
    known_browsers: KnownBrowserCookies | None


class OIDCDependencies(NamedTuple):
    """Stores, services of other features and settings from which the services are made.

    email_domain: see `ClaimSource`.
    profiles: the directory with answers that may be up to a minute old.
    is_directory_open: see `BrowserSignIns`.
    site_client: sends requests to URLs of apps.
    is_secure: whether browsers reach the broker by https.
    has_policy: whether a login policy asks for known browsers.
    """

    lifetimes: FamilyLifetimes
    sign_in_lifetimes: SignInLifetimes
    email_domain: str | None
    requests: AuthorizationRequests
    sign_ins: SignIns
    grants: Grants
    retries: RetryWorker
    reuse_log: ReuseLog
    audit_trail: AuditTrail
    apps: Apps
    webhook_secrets: WebhookSecrets
    directory: Directory
    profiles: Directory
    is_directory_open: bool
    redeemer: Redeemer
    issuer: TokenIssuer
    secret_box: SecretBox
    clock: Clock
    site_client: SiteClient
    is_secure: bool
    has_policy: bool
    feed: Feed


class _Sessions(NamedTuple):
    sign_ins: SignInService
    browser_sign_ins: BrowserSignIns


class _Tokens(NamedTuple):
    claims: ClaimSource
    families: Families
    refresh_tokens: RefreshTokens
    signer: TokenSigner


def create_oidc_services(needs: OIDCDependencies) -> OIDCServices:
    logouts = _logouts(needs)
    sessions = _sessions(needs, logouts)
    tokens = _tokens(needs)
    return OIDCServices(
        claims=tokens.claims,
        families=tokens.families,
        refresh_tokens=tokens.refresh_tokens,
        access_grants=AccessGrants(
            families=tokens.families,
            grants=needs.grants,
            sign_ins=needs.sign_ins,
            clock=needs.clock,
        ),
        sign_ins=sessions.sign_ins,
        logouts=logouts,
        app_events=_app_events(needs),
        site_client=needs.site_client,
        code_exchange=CodeExchange(
            grants=needs.grants,
            signer=tokens.signer,
            issuer=needs.issuer,
            lifetimes=needs.lifetimes,
            clock=needs.clock,
        ),
        refresh_exchange=_refresh_exchange(needs, sessions, tokens),
        device_tokens=_device_tokens(needs, sessions, tokens),
        browser_sign_ins=sessions.browser_sign_ins,
        authorization=_authorization(needs, sessions),
        known_browsers=_known_browsers(needs) if needs.has_policy else None,
    )


def _logouts(needs: OIDCDependencies) -> BackchannelLogouts:
    return BackchannelLogouts(
        calls=needs.retries,
        sign_ins=needs.sign_ins,
        apps=needs.apps,
        issuer=needs.issuer,
        clock=needs.clock,
        client=needs.site_client,
    )


def _app_events(needs: OIDCDependencies) -> AppEvents:
    return AppEvents(
        defer=needs.retries.defer,
        apps=needs.apps,
        secrets=needs.webhook_secrets,
        client=needs.site_client,
        clock=needs.clock,
    )


def _sessions(needs: OIDCDependencies, logouts: BackchannelLogouts) -> _Sessions:
    sign_ins = SignInService(
        sign_ins=needs.sign_ins,
        grants=needs.grants,
        logouts=logouts,
        trail=needs.audit_trail,
        lifetimes=needs.sign_in_lifetimes,
        clock=needs.clock,
        feed=needs.feed,
    )
    browser_sign_ins = BrowserSignIns(
        sign_ins=needs.sign_ins,
        service=sign_ins,
        apps=needs.apps,
        profiles=needs.profiles,
        clock=needs.clock,
        is_open=needs.is_directory_open,
    )
    return _Sessions(sign_ins, browser_sign_ins)


def _tokens(needs: OIDCDependencies) -> _Tokens:
    claims = ClaimSource(email_domain=needs.email_domain)
    families = Families(grants=needs.grants, profiles=needs.profiles)
    refresh_tokens = RefreshTokens(needs.secret_box)
    signer = TokenSigner(issuer=needs.issuer, claims=claims, refresh_tokens=refresh_tokens)
    return _Tokens(claims, families, refresh_tokens, signer)


def _refresh_exchange(
    needs: OIDCDependencies, sessions: _Sessions, tokens: _Tokens
) -> RefreshExchange:
    return RefreshExchange(
        grants=needs.grants,
        families=tokens.families,
        sessions=sessions.sign_ins,
        reuse_log=needs.reuse_log,
        signer=tokens.signer,
        refresh_tokens=tokens.refresh_tokens,
        issuer=needs.issuer,
        lifetimes=needs.lifetimes,
        clock=needs.clock,
    )


def _device_tokens(needs: OIDCDependencies, sessions: _Sessions, tokens: _Tokens) -> DeviceTokens:
    return DeviceTokens(
        sign_ins=sessions.sign_ins,
        grants=needs.grants,
        signer=tokens.signer,
        secret_box=needs.secret_box,
        lifetimes=needs.lifetimes,
        clock=needs.clock,
    )


def _authorization(needs: OIDCDependencies, sessions: _Sessions) -> AuthorizationService:
    return AuthorizationService(
        requests=needs.requests,
        grants=needs.grants,
        sign_ins=sessions.browser_sign_ins,
        redeemer=needs.redeemer,
        directory=needs.directory,
        derive=needs.secret_box.derive,
        clock=needs.clock,
    )


def _known_browsers(needs: OIDCDependencies) -> KnownBrowserCookies:
    return KnownBrowserCookies(
        sign_ins=needs.sign_ins,
        secret_box=needs.secret_box,
        clock=needs.clock,
        is_secure=needs.is_secure,
    )
