"""Opens the backends that the settings name, for the server and for the commands.

The commands do not serve, so this module does not import the server.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from broker.admin.settings import AdminSettings
from broker.apps.model import ADMIN_APP, DEFAULT_APP, App
from broker.apps.ports import Apps, WaferKeys, WebhookSecrets
from broker.apps.registry import AppRegistry, WaferKeyRegistry, WebhookSecretRegistry
from broker.apps.settings import AppSettings
from broker.audit.settings import AuditSettings
from broker.blobs.files import ObjectFileStore
from broker.blobs.pictures import ObjectPictureStore
from broker.blobs.settings import BlobSettings
from broker.bus import open_bus
from broker.bus.settings import BusSettings
from broker.chat.settings import ChatSettings
from broker.directories import open_directory
from broker.errors import InvalidSettings
from broker.identity.model import ProviderAccount
from broker.identity.ports import Directory
from broker.identity.registry import ProviderRegistry
from broker.infrastructure.clock import Clock
from broker.infrastructure.coordination import Bus
from broker.infrastructure.crypto.sealing import KeyList, SealKeyFile, parse_key
from broker.infrastructure.fields import normalize_origin
from broker.infrastructure.runtime.settings import ServerSettings
from broker.infrastructure.settings import InvalidField, Settings
from broker.login.ports import LoginPolicy
from broker.policies import open_policy
from broker.providers import PROVIDERS, open_provider
from broker.providers.settings import AccountSettings, ProviderSettings, is_pretend_allowed
from broker.records import store
from broker.records.settings import RecordsSettings
from broker.records.store import Records
from broker.state import StateBackend, open_state
from broker.state.settings import StateSettings
from broker.wafer.settings import WaferSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Backends:
    """The backends of one broker, and the registries that read them."""

    state: StateBackend
    bus: Bus
    records: Records
    picture_store: ObjectPictureStore
    file_store: ObjectFileStore | None
    apps: AppRegistry
    webhook_secrets: WebhookSecrets
    wafer_keys: WaferKeys
    providers: ProviderRegistry
    directory: Directory
    policy: LoginPolicy | None


def open_backends(settings: Settings, clock: Clock | None, directory: Directory | None) -> Backends:
    """Return all backends, not yet connected.

    clock, directory: used instead of those that the settings name.
    Raises KeyFileError or InvalidSettings.
    """
    state, bus = open_state_and_bus(settings, clock)
    records = open_records(settings, state.clock)
    apps = open_apps(settings, records)
    return Backends(
        state=state,
        bus=bus,
        records=records,
        picture_store=open_pictures(settings),
        file_store=open_files(settings),
        apps=apps,
        webhook_secrets=open_webhook_secrets(settings, records),
        wafer_keys=open_wafer_keys(settings, records),
        providers=open_provider_registry(settings, apps, records),
        directory=directory or open_directory(settings, records.user_lookup, state.clock),
        policy=open_login_policy(settings, state.clock),
    )


def open_state_and_bus(settings: Settings, clock: Clock | None) -> tuple[StateBackend, Bus]:
    """Return state and bus, not yet connected.

    clock: used instead of the clock of the state.
    Raises InvalidSettings for a URL that a driver refuses.
    """
    return open_state_of(settings, clock), open_bus_of(settings)


def open_state_of(settings: Settings, clock: Clock | None) -> StateBackend:
    """Return the state, as `open_state_and_bus` does."""
    group, bus_url = settings[StateSettings], settings[BusSettings].bus_url
    publishes = bus_url in (None, group.state_url)
    with _invalid_setting("state_url"):
        return open_state(group.state_url, clock, replicas=group.replicas, publishes=publishes)


def open_bus_of(settings: Settings) -> Bus:
    """Return the bus, as `open_state_and_bus` does. Its default URL is that of the state."""
    bus_url = settings[BusSettings].bus_url
    with _invalid_setting("bus_url" if bus_url else "state_url"):
        return open_bus(bus_url or settings[StateSettings].state_url)


def open_records(settings: Settings, clock: Clock) -> Records:
    """Return the records, not yet connected.

    Raises KeyFileError, or InvalidSettings for a URL that the driver refuses.
    """
    group, provider = settings[RecordsSettings], settings[ProviderSettings].provider
    with _invalid_setting("records_url"):
        return store.open_records(
            group.records_url,
            load_seal_keys=partial(_load_seal_keys, group),
            providers=(provider, *(name for name in PROVIDERS if name != provider)),
            reserved_ids=(DEFAULT_APP, ADMIN_APP),
            clock=clock,
            trail_lifetime=group.trail_lifetime,
            own_origin=normalize_origin(settings[ServerSettings].public_url),
            pgbouncer=group.records_pgbouncer,
            instance=settings[ServerSettings].instance,
            has_audit_chain=settings[AuditSettings].audit_chain,
        )


async def check_records(settings: Settings, clock: Clock) -> None:
    """Check the options of the records' URL without connecting. Raises InvalidSettings."""
    records = open_records(settings, clock)
    try:
        with _invalid_setting("records_url"):
            await records.check_options()
    finally:
        await records.close()


def _load_seal_keys(group: RecordsSettings) -> KeyList:
    keys = [parse_key(key.get_secret_value()) for key in group.seal_keys]
    return keys or SealKeyFile(group.seal_file).keys()


def open_pictures(settings: Settings) -> ObjectPictureStore:
    """Return the picture store. Raises InvalidSettings for a URL that the driver refuses."""
    group = settings[BlobSettings]
    with _invalid_setting("pictures_url"):
        return ObjectPictureStore(
            group.pictures_url,
            public_url=group.pictures_public_url,
            endpoint=group.pictures_endpoint,
        )


def open_files(settings: Settings) -> ObjectFileStore | None:
    """Return the file store; None without one. Raises InvalidSettings as `open_pictures` does."""
    group = settings[BlobSettings]
    if not group.files_url:
        return None
    with _invalid_setting("files_url"):
        return ObjectFileStore(group.files_url, endpoint=group.files_endpoint)


def open_login_policy(settings: Settings, clock: Clock) -> LoginPolicy | None:
    """Return the policy, or None if it is off. Raises InvalidSettings for a wrong GEO file."""
    with _invalid_setting("geo_file"):
        return open_policy(settings, clock)


def open_apps(settings: Settings, records: Records) -> AppRegistry:
    """Return the app of the settings and the apps in the records."""
    return AppRegistry([default_app(settings), *admin_app(settings)], records.apps)


def default_app(settings: Settings) -> App:
    """Return the app that the settings define."""
    group = settings[AppSettings]
    return App(
        id=DEFAULT_APP,
        name=group.app_name,
        origins=frozenset(group.origins),
        register_url=group.register_url,
        provider=settings[ProviderSettings].provider,
        code_source=group.code_source,
        client_type="public",  # the settings have no secret for it
        logo_url=group.logo_url,
        open_url=group.open_url,
        show_scanner=group.show_scanner,
        events_url=group.events_url,
        tunnel_url=group.tunnel_url,
        wafer_host=settings[WaferSettings].wafer_host,
        rooms=settings[ChatSettings].chat_rooms,
        moderators=settings[ChatSettings].chat_moderators,
    )


def admin_app(settings: Settings) -> Sequence[App]:
    """Return the app with which operators sign in; none if the settings list no operators."""
    group, public_url = settings[AdminSettings], settings[ServerSettings].public_url
    if not group.admin_subjects or group.admin_url is None:
        return []
    origins = {normalize_origin(group.admin_url), normalize_origin(public_url)}
    app = App(
        id=ADMIN_APP,
        name="scan-login",
        origins=frozenset(origins),
        redirect_urls=frozenset({f"{group.admin_url}/"}),
        provider=settings[ProviderSettings].provider,
        client_type="public",
        pkce="required",
        refresh="never",
        scopes=("openid",),
        match="number",  # a relayed code would give the attacker an operator's token
        phone_app=DEFAULT_APP,
    )
    return [app]


def open_webhook_secrets(settings: Settings, records: Records) -> WebhookSecrets:
    secrets = [secret.get_secret_value() for secret in settings[AppSettings].webhook_secret]
    return WebhookSecretRegistry({DEFAULT_APP: secrets}, records.apps)


def open_wafer_keys(settings: Settings, records: Records) -> WaferKeys:
    key = settings[WaferSettings].wafer_key
    keys = {DEFAULT_APP: key.get_secret_value()} if key else {}
    return WaferKeyRegistry(keys, records.apps)


def open_provider_registry(settings: Settings, apps: Apps, records: Records) -> ProviderRegistry:
    return ProviderRegistry(
        apps=apps,
        secrets=records.apps,
        default_accounts=_default_accounts(settings),
        factories={name: partial(open_provider, settings) for name in PROVIDERS},
    )


def _default_accounts(settings: Settings) -> list[ProviderAccount]:
    pretend = [ProviderAccount("pretend")] if is_pretend_allowed(settings) else []
    accounts = [group.account() for group in settings if isinstance(group, AccountSettings)]
    return [*pretend, *(account for account in accounts if account)]


@contextmanager
def _invalid_setting(name: str) -> Iterator[None]:
    """Raise InvalidSettings for a ValueError of a driver, with the name of the setting."""
    try:
        yield
    except ValueError as error:
        raise InvalidSettings([str(InvalidField(name, str(error)))]) from None
