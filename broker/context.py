"""The context of the features: settings, backends, shared services and server parts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass

from broker.apps.authentication import AppAuthenticator
from broker.apps.client_authentication import ClientAuthenticator
from broker.apps.ports import AppAdmin, WaferKeys, WebhookSecrets
from broker.apps.registry import AppRegistry
from broker.audit.ports import AuditExport
from broker.backends import Backends, default_app
from broker.blobs.settings import BlobSettings
from broker.chat.ports import ChatStores, LoginGrants
from broker.directories.settings import DirectorySettings
from broker.directories.shared import recent
from broker.files.ports import FileCleanup, FileQuota, FileRecords, FileStore
from broker.identity.ports import Directory
from broker.identity.registry import ProviderRegistry
from broker.infrastructure.api.authorization import OperatorAuthenticator
from broker.infrastructure.api.client_address import ClientAddresses
from broker.infrastructure.api.mounted import ReadinessCheck
from broker.infrastructure.api.rate_limit import RateLimiter
from broker.infrastructure.clock import Clock
from broker.infrastructure.coordination import Bus, LeaderLeases
from broker.infrastructure.crypto.sealing import SecretBox
from broker.infrastructure.observability.feed import Feed
from broker.infrastructure.observability.instance_report import InstanceReport
from broker.infrastructure.retries import RetryWorker
from broker.infrastructure.runtime.drain import DrainGate
from broker.infrastructure.runtime.settings import ServerSettings
from broker.infrastructure.settings import Settings
from broker.infrastructure.transport.socketio.server import SocketIOServer
from broker.login.ports import LOGIN_RETENTION, AuditLog, KnownBrowsers, LoginReports, SignInEnds
from broker.login.services import LoginServices
from broker.login.settings import LoginSettings
from broker.monitoring.instance_watch import InstanceWatch
from broker.oidc.device_grant import DeviceTokens
from broker.oidc.ports import AuthorizationRequests
from broker.oidc.services import OIDCServices
from broker.pool.code_pool import CodePool
from broker.pool.ports import CodeLeases, PictureStore
from broker.providers.settings import ProviderSettings
from broker.records.pool_codes import SqlCodeStore
from broker.services import Services
from broker.sessions.authentication import PhoneAuthenticator
from broker.sessions.limits import SessionLimits
from broker.sessions.service import SessionService
from broker.state import StateBackend
from broker.tokens.issuer import TokenIssuer
from broker.tunnels.ports import TunnelStores
from broker.tunnels.services import TunnelServices
from broker.users.ports import (
    EndedSubjectLog,
    IdentityAdmin,
    PhoneNumbers,
    UserAdmin,
    UserRegistration,
)
from broker.wafer.callbacks import WaferCallbacks


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Passed to each feature's `mount`. It satisfies the protocol in each `mount.py`.

    addresses: determines client addresses.
    failures: limits failed attempts per client address.
    unready_reason: returns why this instance should get no browsers now; None if it should.
    operators: authenticates operators; None without an admin token.
    """

    settings: Settings
    backends: Backends
    services: Services
    socket_server: SocketIOServer
    addresses: ClientAddresses
    drain: DrainGate
    failures: RateLimiter
    client_authenticator: ClientAuthenticator
    phone_authenticator: PhoneAuthenticator
    unready_reason: ReadinessCheck
    operators: OperatorAuthenticator | None

    @property
    def admin_token(self) -> str | None:
        token = self.settings[ServerSettings].admin_token
        return token.get_secret_value() if token else None

    @property
    def app_authenticator(self) -> AppAuthenticator:
        return AppAuthenticator(
            apps=self.apps,
            secrets=self.backends.records.apps,
            failures=self.failures,
            addresses=self.addresses,
            admin_token=self.admin_token,
        )

    @property
    def pictures_url(self) -> str:
        return f"{self.settings[BlobSettings].pictures_public_url}/"

    @property
    def files_url(self) -> str:
        return self.settings[BlobSettings].files_public_url

    @property
    def phone_page_url(self) -> str:
        """The page that simulates a phone, for apps with the provider `pretend`."""
        return self.settings[ProviderSettings].phone_page_url

    @property
    def are_users_recorded(self) -> bool:
        return self.settings[DirectorySettings].directory == "sql"

    @property
    def clock(self) -> Clock:
        return self.backends.state.clock

    @property
    def state(self) -> StateBackend:
        return self.backends.state

    @property
    def code_leases(self) -> CodeLeases:
        return self.backends.state.code_leases

    @property
    def leader_leases(self) -> LeaderLeases:
        return self.backends.state.leader_leases

    @property
    def webhook_secrets(self) -> WebhookSecrets:
        return self.backends.webhook_secrets

    @property
    def wafer_keys(self) -> WaferKeys:
        return self.backends.wafer_keys

    @property
    def chat_stores(self) -> ChatStores:
        return self.backends.state.chat

    @property
    def bus(self) -> Bus:
        return self.backends.bus

    @property
    def instances(self) -> InstanceWatch:
        return self.services.instances

    @property
    def other_instances(self) -> Callable[[], Collection[str]]:
        return self.services.instances.names

    @property
    def instance_notes(self) -> Callable[[str], Collection[str]]:
        return self.services.instances.notes

    @property
    def feed(self) -> Feed:
        return self.services.feed

    @property
    def report(self) -> InstanceReport:
        return self.services.report

    @property
    def retries(self) -> RetryWorker:
        return self.services.retries

    @property
    def audit_log(self) -> AuditLog:
        return self.backends.records.audit_log

    @property
    def audit_export(self) -> AuditExport:
        return self.backends.records.audit_export

    @property
    def sign_in_ends(self) -> SignInEnds:
        return self.services.oidc_services.sign_ins

    @property
    def known_browsers(self) -> KnownBrowsers | None:
        return self.services.oidc_services.known_browsers

    @property
    def login_reports(self) -> LoginReports:
        return self.services.oidc_services.app_events

    @property
    def picture_store(self) -> PictureStore:
        return self.backends.picture_store

    @property
    def file_store(self) -> FileStore | None:
        return self.backends.file_store

    @property
    def file_records(self) -> FileRecords:
        return self.backends.records.files

    @property
    def file_quota(self) -> FileQuota:
        return self.backends.records.files

    @property
    def file_cleanup(self) -> FileCleanup:
        return self.backends.records.files

    @property
    def apps(self) -> AppRegistry:
        return self.backends.apps

    @property
    def settings_apps(self) -> Sequence[str]:
        return [default_app(self.settings).key]

    @property
    def providers(self) -> ProviderRegistry:
        return self.backends.providers

    @property
    def secret_box(self) -> SecretBox:
        return self.backends.records.secret_box

    @property
    def code_store(self) -> SqlCodeStore:
        return self.backends.records.code_store

    @property
    def app_admin(self) -> AppAdmin:
        return self.backends.records.app_admin

    @property
    def refresh_apps(self) -> Callable[[], Awaitable[None]]:
        return self.backends.records.apps.refresh

    @property
    def user_registration(self) -> UserRegistration:
        return self.backends.records.user_lookup

    @property
    def recent_directory(self) -> Directory:
        return recent(self.backends.directory)

    @property
    def phone_numbers(self) -> PhoneNumbers | None:
        return self.backends.records.user_lookup if self.are_users_recorded else None

    @property
    def ended_subjects(self) -> EndedSubjectLog:
        return self.backends.records.ended_subjects

    @property
    def user_admin(self) -> UserAdmin:
        return self.backends.records.user_admin

    @property
    def identity_admin(self) -> IdentityAdmin:
        return self.backends.records.user_admin

    @property
    def records_problem(self) -> ReadinessCheck:
        return self.backends.records.file_problem

    @property
    def tunnel_stores(self) -> TunnelStores:
        return self.backends.state.tunnels

    @property
    def tunnel_services(self) -> TunnelServices:
        return self.services.tunnels

    @property
    def token_issuer(self) -> TokenIssuer:
        return self.services.token_issuer

    @property
    def access_grants(self) -> LoginGrants:
        return self.services.oidc_services.access_grants

    @property
    def token_key_ids(self) -> Callable[[], tuple[str, ...]]:
        return self.services.token_issuer.key_ids

    @property
    def signing_key_ids(self) -> Callable[[], tuple[str, ...]]:
        return self.services.token_issuer.signing_key_ids

    @property
    def signing_key_age(self) -> Callable[[], float]:
        return self.services.token_issuer.signing_key_age

    @property
    def login_lifetime(self) -> int:
        return self.settings[LoginSettings].login_lifetime

    @property
    def login_retention(self) -> int:
        return LOGIN_RETENTION

    @property
    def code_pool(self) -> CodePool:
        return self.services.code_pool

    @property
    def login_services(self) -> LoginServices:
        return self.services.login_services

    @property
    def session_service(self) -> SessionService:
        return self.services.session_service

    @property
    def session_limits(self) -> SessionLimits:
        return self.services.session_limits

    @property
    def wafer_callbacks(self) -> WaferCallbacks:
        return self.services.wafer.callbacks

    @property
    def oidc_services(self) -> OIDCServices:
        return self.services.oidc_services

    @property
    def openid_tokens(self) -> DeviceTokens | None:
        if self.settings[ServerSettings].insecure_reason():
            return None
        return self.services.oidc_services.device_tokens

    @property
    def authorization_requests(self) -> AuthorizationRequests:
        return self.backends.state.authorization_requests
