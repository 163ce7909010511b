"""Opens the backends that the settings name.

The server and the commands use it.  It imports no server.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from broker.apps.model import DEFAULT_APP, App
from broker.apps.ports import Apps
from broker.apps.registry import AppRegistry
from broker.apps.settings import AppSettings
from broker.blobs.pictures import ObjectPictureStore
from broker.blobs.settings import BlobSettings
from broker.bus import open_bus
from broker.bus.settings import BusSettings
from broker.directories import open_directory
from broker.errors import InvalidSettings
from broker.identity.model import ProviderAccount
from broker.identity.ports import Directory
from broker.identity.registry import ProviderRegistry
from broker.infrastructure.clock import Clock
from broker.infrastructure.coordination import Bus
from broker.infrastructure.crypto.sealing import KeyList, SealKeyFile, parse_key
from broker.infrastructure.settings import InvalidField, Settings
from broker.providers import PROVIDERS, open_provider
from broker.providers.settings import AccountSettings, ProviderSettings, is_pretend_allowed
from broker.records import store
from broker.records.settings import RecordsSettings
from broker.records.store import Records
from broker.state import StateBackend, open_state
from broker.state.settings import StateSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Backends:
    """The backends of one broker, and the registries that read them."""

    state: StateBackend
    bus: Bus
    records: Records
    picture_store: ObjectPictureStore
    apps: AppRegistry
    providers: ProviderRegistry
    directory: Directory


def open_backends(settings: Settings, clock: Clock | None, directory: Directory | None) -> Backends:
    """Return all backends, not yet connected.

    clock, directory: replace those of the settings.  Raises KeyFileError or InvalidSettings.
    """
    state, bus = open_state_and_bus(settings, clock)
    records = open_records(settings, state.clock)
    apps = open_apps(settings, records)
    return Backends(
        state=state,
        bus=bus,
        records=records,
        picture_store=open_pictures(settings),
        apps=apps,
        providers=open_provider_registry(settings, apps, records),
        directory=directory or open_directory(settings, records.user_lookup, state.clock),
    )


def open_state_and_bus(settings: Settings, clock: Clock | None) -> tuple[StateBackend, Bus]:
    """Return state and bus, not yet connected.

    clock: replaces the state's.  Raises InvalidSettings for a URL that a driver refuses.
    """
    state = settings[StateSettings]
    bus_url = settings[BusSettings].bus_url or state.state_url
    name = "state_url"
    try:
        backend = open_state(
            state.state_url, clock, replicas=state.replicas, publishes=bus_url == state.state_url
        )
        name = "bus_url"
        return backend, open_bus(bus_url)
    except ValueError as error:
        raise _invalid(name, error) from None


def open_records(settings: Settings, clock: Clock) -> Records:
    """Return the records, not yet connected.

    Raises KeyFileError, or InvalidSettings for a URL that the driver refuses.
    """
    records, provider = settings[RecordsSettings], settings[ProviderSettings].provider
    try:
        return store.open_records(
            records.records_url,
            load_seal_keys=partial(_seal_keys, records),
            providers=(provider, *(name for name in PROVIDERS if name != provider)),
            reserved_ids=(DEFAULT_APP,),
            clock=clock,
            trail_lifetime=records.trail_lifetime,
            pgbouncer=records.records_pgbouncer,
        )
    except ValueError as error:
        raise _invalid("records_url", error) from None


async def check_records(settings: Settings, clock: Clock) -> None:
    """Check the records' options without connecting.  Raises InvalidSettings."""
    records = open_records(settings, clock)
    try:
        await records.check_options()
    except ValueError as error:
        raise _invalid("records_url", error) from None
    finally:
        await records.close()


def _seal_keys(records: RecordsSettings) -> KeyList:
    given = [parse_key(key.get_secret_value()) for key in records.seal_keys]
    return given or SealKeyFile(records.seal_file).keys()


def open_pictures(settings: Settings) -> ObjectPictureStore:
    """Return the picture store.  Raises InvalidSettings for a URL that the driver refuses."""
    blobs = settings[BlobSettings]
    try:
        return ObjectPictureStore(
            blobs.pictures_url,
            public_url=blobs.pictures_public_url,
            endpoint=blobs.pictures_endpoint,
        )
    except ValueError as error:
        raise _invalid("pictures_url", error) from None


def open_apps(settings: Settings, records: Records) -> AppRegistry:
    return AppRegistry([default_app(settings)], records.apps)


def default_app(settings: Settings) -> App:
    app = settings[AppSettings]
    return App(
        id=DEFAULT_APP,
        name=app.app_name,
        origins=frozenset(app.origins),
        register_url=app.register_url,
        provider=settings[ProviderSettings].provider,
        code_source=app.code_source,
    )


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


def _invalid(name: str, error: ValueError) -> InvalidSettings:
    return InvalidSettings([str(InvalidField(name, str(error)))])
