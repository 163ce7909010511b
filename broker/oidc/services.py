"""Creates the services of the OpenID Connect provider."""

from __future__ import annotations

from typing import NamedTuple

from broker.apps.ports import Apps, WebhookSecrets
from broker.identity.ports import Directory
from broker.infrastructure.clock import Clock
from broker.infrastructure.crypto.sealing import SecretBox
from broker.infrastructure.outbound.webhook import SiteClient
from broker.infrastructure.retries import Defer
from broker.login.delivery import Redeemer
from broker.oidc.app_events import AppEvents
from broker.oidc.authorization import AuthorizationService
from broker.oidc.browser_sign_ins import BrowserSignIns
from broker.oidc.claims import ClaimSource
from broker.oidc.device_grant import DeviceTokens
from broker.oidc.families import Families
from broker.oidc.grants import CodeExchange, FamilyLifetimes, RefreshExchange
from broker.oidc.known_browsers import KnownBrowserCookies
from broker.oidc.logouts import BackchannelLogouts
from broker.oidc.ports import AuthorizationRequests, Grants, SignIns
from broker.oidc.refresh_tokens import RefreshTokens
from broker.oidc.sign_ins import SignInLifetimes, SignInService
from broker.oidc.tokens import TokenSigner
from broker.tokens.issuer import TokenIssuer


class OIDCServices(NamedTuple):
    """Services that share the stores of one state."""

    claims: ClaimSource
    families: Families
    refresh_tokens: RefreshTokens
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


def create_oidc_services(
    *,
    lifetimes: FamilyLifetimes,
    sign_in_lifetimes: SignInLifetimes,
    email_domain: str | None,
    requests: AuthorizationRequests,
    sign_ins: SignIns,
    grants: Grants,
    defer: Defer,
    apps: Apps,
    webhook_secrets: WebhookSecrets,
    directory: Directory,
    profiles: Directory,
    is_directory_open: bool,
    redeemer: Redeemer,
    issuer: TokenIssuer,
    secret_box: SecretBox,
    clock: Clock,
    site_client: SiteClient,
    is_secure: bool,
    has_policy: bool,
) -> OIDCServices:
    """Create the services.

    email_domain: see `ClaimSource`.
    profiles: the directory with answers that may be up to a minute old.
    is_directory_open: see `BrowserSignIns`.
    site_client: sends requests to URLs of apps.
    is_secure: whether browsers reach the broker by https.
    has_policy: whether a login policy asks for known browsers.
    """
    claims = ClaimSource(email_domain=email_domain)
    families = Families(grants=grants, profiles=profiles)
    refresh_tokens = RefreshTokens(secret_box)
    signer = TokenSigner(issuer=issuer, claims=claims, refresh_tokens=refresh_tokens)
    logouts = BackchannelLogouts(
        defer=defer, apps=apps, issuer=issuer, clock=clock, client=site_client
    )
    events = AppEvents(
        defer=defer, apps=apps, secrets=webhook_secrets, client=site_client, clock=clock
    )
    sessions = SignInService(
        sign_ins=sign_ins,
        grants=grants,
        logouts=logouts,
        lifetimes=sign_in_lifetimes,
        clock=clock,
    )
    browser_sign_ins = BrowserSignIns(
        sign_ins=sign_ins,
        service=sessions,
        apps=apps,
        profiles=profiles,
        clock=clock,
        is_open=is_directory_open,
    )
    known_browsers = KnownBrowserCookies(
        sign_ins=sign_ins, secret_box=secret_box, clock=clock, is_secure=is_secure
    )
    return OIDCServices(
        claims=claims,
        families=families,
        refresh_tokens=refresh_tokens,
        sign_ins=sessions,
        logouts=logouts,
        app_events=events,
        site_client=site_client,
        code_exchange=CodeExchange(
            grants=grants, signer=signer, issuer=issuer, lifetimes=lifetimes, clock=clock
        ),
        refresh_exchange=RefreshExchange(
            grants=grants,
            families=families,
            sessions=sessions,
            signer=signer,
            refresh_tokens=refresh_tokens,
            issuer=issuer,
            lifetimes=lifetimes,
            clock=clock,
        ),
        device_tokens=DeviceTokens(
            sign_ins=sessions,
            grants=grants,
            signer=signer,
            secret_box=secret_box,
            lifetimes=lifetimes,
            clock=clock,
        ),
        browser_sign_ins=browser_sign_ins,
        authorization=AuthorizationService(
            requests=requests,
            grants=grants,
            sign_ins=browser_sign_ins,
            redeemer=redeemer,
            directory=directory,
            derive=secret_box.derive,
            clock=clock,
        ),
        known_browsers=known_browsers if has_policy else None,
    )
