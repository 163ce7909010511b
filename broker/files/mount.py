"""Mounts files, if the settings name a store for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from broker.apps.authentication import SERVER, AppAuthenticator
from broker.apps.ports import Apps, WebhookSecrets
from broker.files.api import ENDPOINTS, FilesAPI
from broker.files.authentication import HOLDER, URL_OR_HOLDER, HolderAuthenticator
from broker.files.clamd import ClamdScanner
from broker.files.jobs import FileCleaner
from broker.files.limits import ReadLimits, UploadLimits
from broker.files.offers import FileOffers
from broker.files.ports import FileCleanup, FileQuota, FileRecords, FileStore
from broker.files.service import FileLimits, FileService
from broker.files.settings import FileSettings
from broker.files.urls import FileURLs
from broker.infrastructure.api.endpoint import Route, bind_endpoints
from broker.infrastructure.api.mounted import Mounted, Resource
from broker.infrastructure.background import BackgroundTask
from broker.infrastructure.clock import Clock
from broker.infrastructure.coordination import LeaderLeases
from broker.infrastructure.crypto.sealing import SecretBox
from broker.infrastructure.outbound.settings import OutboundSettings
from broker.infrastructure.outbound.webhook import SiteClient
from broker.infrastructure.runtime.lifecycle import do_nothing
from broker.infrastructure.runtime.settings import ServerSettings
from broker.infrastructure.settings import Settings
from broker.sessions.authentication import PhoneAuthenticator
from broker.sessions.service import SessionService

ROLE = "files"


class FilesContext(Protocol):
    """file_store: None if the settings name none.  files_url: the URL prefix of files."""

    @property
    def settings(self) -> Settings: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def apps(self) -> Apps: ...
    @property
    def app_authenticator(self) -> AppAuthenticator: ...
    @property
    def phone_authenticator(self) -> PhoneAuthenticator: ...
    @property
    def session_service(self) -> SessionService: ...
    @property
    def webhook_secrets(self) -> WebhookSecrets: ...
    @property
    def secret_box(self) -> SecretBox: ...
    @property
    def leader_leases(self) -> LeaderLeases: ...
    @property
    def file_store(self) -> FileStore | None: ...
    @property
    def file_records(self) -> FileRecords: ...
    @property
    def file_quota(self) -> FileQuota: ...
    @property
    def file_cleanup(self) -> FileCleanup: ...
    @property
    def files_url(self) -> str: ...


def mount(context: FilesContext) -> Mounted:
    store = context.file_store
    if store is None or ROLE not in context.settings[ServerSettings].roles:
        return Mounted()
    private = context.settings[OutboundSettings].webhooks_private
    client = SiteClient(allow_private_address=private)
    service = _service(context, store, client)
    cleaner = FileCleaner(
        store=store,
        records=context.file_records,
        cleanup=context.file_cleanup,
        leader_leases=context.leader_leases,
        clock=context.clock,
        instance=context.settings[ServerSettings].instance,
    )
    return Mounted(
        routes=_routes(context, service, store),
        tasks=[BackgroundTask("file cleanup", cleaner.run)],
        resources=[Resource(client.open, client.close), Resource(do_nothing, service.close)],
    )


def _service(context: FilesContext, store: FileStore, client: SiteClient) -> FileService:
    group = context.settings[FileSettings]
    return FileService(
        store=store,
        records=context.file_records,
        quota=context.file_quota,
        offers=FileOffers(secrets=context.webhook_secrets, client=client, clock=context.clock),
        scanner=ClamdScanner(group.clamd) if group.clamd else None,
        uploads=UploadLimits(per_hour=group.files_per_hour),
        limits=FileLimits(
            max_bytes=group.files_max_bytes,
            quota_bytes=group.files_quota_bytes,
            lifetime=group.files_lifetime,
        ),
        clock=context.clock,
    )


def _routes(context: FilesContext, service: FileService, store: FileStore) -> Sequence[Route]:
    holders = HolderAuthenticator(
        phones=context.phone_authenticator,
        servers=context.app_authenticator,
        session_service=context.session_service,
        apps=context.apps,
    )
    api = FilesAPI(
        service=service,
        store=store,
        urls=FileURLs(base=context.files_url, secret_box=context.secret_box, clock=context.clock),
        reads=ReadLimits(),
        is_direct=context.settings[FileSettings].files_direct,
    )
    authenticators = {
        HOLDER: holders.authenticate,
        URL_OR_HOLDER: holders.accept_url,
        SERVER: context.app_authenticator.authenticate,
    }
    return bind_endpoints(api, ENDPOINTS, authenticators)
