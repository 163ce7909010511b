"""Builds the services that several features use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from broker.backends import Backends
from broker.directories.settings import DirectorySettings
from broker.directories.shared import recent
from broker.infrastructure.api.settings import APISettings
from broker.infrastructure.fair_queue import FairQueue
from broker.infrastructure.observability.feed import Feed
from broker.infrastructure.observability.instance_report import InstanceReport
from broker.infrastructure.outbound.settings import OutboundSettings
from broker.infrastructure.outbound.webhook import SiteClient
from broker.infrastructure.retries import RetryWorker
from broker.infrastructure.runtime.settings import ServerSettings
from broker.infrastructure.settings import Settings
from broker.login.codes import CodeSource, LoginImages
from broker.login.delivery import Redeemer
from broker.login.ports import LOGIN_RETENTION
from broker.login.services import LoginDependencies, LoginServices, create_login_services
from broker.login.settings import LoginSettings
from broker.monitoring.instance_watch import InstanceWatch
from broker.oidc.grants import FamilyLifetimes
from broker.oidc.service import RequestReader
from broker.oidc.services import OIDCDependencies, OIDCServices, create_oidc_services
from broker.oidc.settings import OIDCSettings
from broker.oidc.sign_ins import SignInLifetimes
from broker.pool.code_pool import CodePool
from broker.pool.settings import PoolSettings
from broker.sessions.limits import SessionLimits
from broker.sessions.service import SessionService
from broker.sessions.settings import SessionSettings
from broker.tokens.issuer import TokenIssuer
from broker.tokens.keys import ID_TOKEN_ALGORITHMS, SigningKeyFile
from broker.tokens.settings import TokenSettings
from broker.tunnels.callback_sender import callback_turns
from broker.tunnels.callback_services import CallbackServices, create_callback_services
from broker.tunnels.model import NATIVE, WAFER
from broker.tunnels.ports import TunnelCallbacks
from broker.tunnels.services import TunnelDependencies, TunnelServices, create_tunnel_services
from broker.tunnels.settings import TunnelSettings
from broker.wafer.services import WaferServices, create_wafer_services
from broker.wafer.settings import WaferSettings

PROFILE_TTL = 60.0
"""Seconds for which OpenID Connect uses an answer of the directory again."""


class Services(NamedTuple):
    """Services that several features use."""

    token_issuer: TokenIssuer
    code_pool: CodePool
    login_services: LoginServices
    session_service: SessionService
    session_limits: SessionLimits
    oidc_services: OIDCServices
    callbacks: CallbackServices
    tunnels: TunnelServices
    wafer: WaferServices
    retries: RetryWorker
    instances: InstanceWatch
    feed: Feed
    report: InstanceReport


def build_services(settings: Settings, backends: Backends) -> Services:
    issuer = TokenIssuer(
        file=SigningKeyFile(settings[TokenSettings].key_file),
        algorithm=settings[TokenSettings].token_algorithm,
        issuer=settings[ServerSettings].public_url,
        lifetime=settings[TokenSettings].token_lifetime,
        id_token_algorithms=ID_TOKEN_ALGORITHMS,
        hint_lifetime=settings[OIDCSettings].signin_lifetime,
    )
    pool = CodePool(
        leases=backends.state.code_leases,
        pictures=backends.picture_store,
        clock=backends.state.clock,
        cooldown=settings[PoolSettings].pool_rest,
        retention=LOGIN_RETENTION,
        uses=settings[PoolSettings].pool_uses,
    )
    feed = Feed()
    logins = _build_login_services(settings, backends, issuer, pool, feed)
    sessions = _build_session_service(settings, backends)
    session_limits = SessionLimits(per_minute=settings[APISettings].begins_per_minute)
    retries = RetryWorker(queue=backends.state.retries, clock=backends.state.clock)
    oidc = _build_oidc_services(settings, backends, issuer, logins.redeemer, retries, feed)
    instances = InstanceWatch(settings[ServerSettings].instance, feed=feed)
    turns = callback_turns()
    callbacks = _build_callbacks(settings, backends, retries, turns)
    wafer = _build_wafer(settings, backends, retries, turns)
    tunnels = _build_tunnels(
        settings, backends, sessions, {NATIVE: callbacks.native, WAFER: wafer.callbacks}, feed
    )
    return Services(
        issuer,
        pool,
        logins,
        sessions,
        session_limits,
        oidc,
        callbacks,
        tunnels,
        wafer,
        retries,
        instances,
        feed,
        InstanceReport(),
    )


def _build_callbacks(
    settings: Settings, backends: Backends, retries: RetryWorker, turns: FairQueue
) -> CallbackServices:
    return create_callback_services(
        apps=backends.apps,
        secrets=backends.webhook_secrets,
        records=backends.state.tunnels.records,
        retries=retries,
        turns=turns,
        clock=backends.state.clock,
        allow_private_address=settings[OutboundSettings].webhooks_private,
    )


def _build_wafer(
    settings: Settings, backends: Backends, retries: RetryWorker, turns: FairQueue
) -> WaferServices:
    return create_wafer_services(
        apps=backends.apps,
        keys=backends.wafer_keys,
        secrets=backends.webhook_secrets,
        records=backends.state.tunnels.records,
        retries=retries,
        turns=turns,
        clock=backends.state.clock,
        allow_private_address=settings[WaferSettings].wafer_callbacks_private,
    )


def _build_tunnels(
    settings: Settings,
    backends: Backends,
    sessions: SessionService,
    callbacks: Mapping[str, TunnelCallbacks],
    feed: Feed,
) -> TunnelServices:
    group = settings[TunnelSettings]
    return create_tunnel_services(
        TunnelDependencies(
            stores=backends.state.tunnels,
            callbacks=callbacks,
            session_service=sessions,
            bus=backends.bus,
            clock=backends.state.clock,
            instance=settings[ServerSettings].instance,
            tunnel_max=group.tunnel_max,
            away_timeout=group.tunnel_away_timeout,
            feed=feed,
        )
    )


def _build_oidc_services(
    settings: Settings,
    backends: Backends,
    issuer: TokenIssuer,
    redeemer: Redeemer,
    retries: RetryWorker,
    feed: Feed,
) -> OIDCServices:
    state, group = backends.state, settings[OIDCSettings]
    lifetimes = FamilyLifetimes(
        access=issuer.lifetime,
        idle=group.refresh_idle,
        total=group.refresh_lifetime,
        grace=group.refresh_grace,
        signin_idle=group.signin_idle,
    )
    needs = OIDCDependencies(
        lifetimes=lifetimes,
        sign_in_lifetimes=SignInLifetimes(group.signin_idle, group.signin_lifetime),
        email_domain=group.oidc_email_domain,
        requests=state.authorization_requests,
        sign_ins=state.sign_ins,
        grants=state.grants,
        retries=retries,
        reuse_log=backends.records.reuse_log,
        audit_trail=backends.records.audit_trail,
        apps=backends.apps,
        webhook_secrets=backends.webhook_secrets,
        directory=backends.directory,
        is_directory_open=settings[DirectorySettings].directory == "open",
        redeemer=redeemer,
        profiles=recent(backends.directory, PROFILE_TTL),
        issuer=issuer,
        secret_box=backends.records.secret_box,
        clock=state.clock,
        site_client=SiteClient(allow_private_address=settings[OutboundSettings].webhooks_private),
        is_secure=settings[ServerSettings].public_url.startswith("https://"),
        has_policy=backends.policy is not None,
        feed=feed,
    )
    return create_oidc_services(needs)


def _build_login_services(
    settings: Settings, backends: Backends, issuer: TokenIssuer, pool: CodePool, feed: Feed
) -> LoginServices:
    state, instance = backends.state, settings[ServerSettings].instance
    images = LoginImages(store=state.images, leader_leases=state.leader_leases, instance=instance)
    return create_login_services(
        LoginDependencies(
            logins=state.logins,
            user_codes=state.user_codes,
            bus=backends.bus,
            apps=backends.apps,
            audit_log=backends.records.audit_log,
            codes=CodeSource(providers=backends.providers, pool=pool, images=images),
            directory=backends.directory,
            profiles=recent(backends.directory, PROFILE_TTL),
            requests=RequestReader(state.authorization_requests),
            policy=backends.policy,
            issuer=issuer,
            clock=state.clock,
            instance=instance,
            lifetime=settings[LoginSettings].login_lifetime,
            register_lifetime=settings[LoginSettings].register_lifetime,
            scans_max=settings[LoginSettings].scans_max,
            feed=feed,
        )
    )


def _build_session_service(settings: Settings, backends: Backends) -> SessionService:
    group = settings[SessionSettings]
    return SessionService(
        store=backends.state.sessions,
        providers=backends.providers,
        directory=recent(backends.directory),
        apps=backends.apps,
        secret_box=backends.records.secret_box,
        clock=backends.state.clock,
        lifetime=group.session_lifetime,
        idle_timeout=group.session_idle or group.session_lifetime,
    )
