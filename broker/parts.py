"""The parts that know nothing of the wire, made as the settings want them."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

import structlog

from broker.accounts import RETRY_AFTER, Account, Accounts
from broker.bus import Bus, open_bus
from broker.codes import CodeSource, LoginImages
from broker.directories import Directory
from broker.directories.http import HttpDirectory
from broker.directories.open import OpenDirectory
from broker.directories.shared import SharedDirectory, recent
from broker.directories.sql import SqlDirectory
from broker.errors import ProviderFails, SettingsWrong, StartError, UnknownApp
from broker.flow import Flow
from broker.lobby import Lobby
from broker.monitor import Monitor
from broker.pictures import Pictures
from broker.pool import Pool
from broker.pool.keeping import Keeper
from broker.pool.upkeep import Limits, Parts
from broker.providers import NAMES, Provider
from broker.providers.pretend import PretendProvider
from broker.providers.wechat import WeChatProvider
from broker.records import DEFAULT_APP, App, Apps, Records, open_records
from broker.records.seal import Keys, SealFile, read_key
from broker.records.settings import SettingsApps
from broker.sessions import Sessions
from broker.settings import APPID, PREFIX, Settings
from broker.state import Clock, Leases, Store, open_state
from broker.tokens import Issuer, KeyFile

log = structlog.get_logger()


def _pretend(settings: Settings, account: Account) -> Provider:
    if not settings.may_pretend:
        raise ProviderFails(
            "the provider pretend lets anyone log in as anyone, and other machines can reach this "
            f"broker: give the app the provider wechat, or set {PREFIX}ALLOW_PRETEND=true for a "
            "trial in a network that you trust",
            RETRY_AFTER,
        )
    return PretendProvider(phone_page_url=settings.phone_page_url)


def _wechat(settings: Settings, account: Account) -> Provider:
    if not (re.fullmatch(APPID, account.app_id) and account.secret):
        raise ProviderFails(
            f"the provider wechat wants an AppID and an AppSecret, and {account.app_id!r} "
            f"{'has no secret' if account.secret == '' else 'is no AppID'}",
            RETRY_AFTER,
        )
    return WeChatProvider(
        appid=account.app_id,
        secret=account.secret,
        api_url=settings.wechat_api_url,
        page=settings.wechat_page,
        env_version=settings.wechat_env_version,
        check_path=settings.wechat_check_path,
        width=settings.wechat_width,
        codes_per_minute=settings.wechat_codes_per_minute,
    )


PROVIDERS: Mapping[str, Callable[[Settings, Account], Provider]] = {
    "pretend": _pretend,
    "wechat": _wechat,
}
"""How each provider is made for an account, by name."""


def _webhook(settings: Settings, records: Records, clock: Clock) -> Directory:
    webhook = HttpDirectory(
        url=settings.directory,
        signing_secrets=[one.get_secret_value() for one in settings.directory_secret],
        private=settings.directory_private,
        clock=clock,
    )
    return SharedDirectory(webhook)


def _sql(settings: Settings, records: Records, clock: Clock) -> Directory:
    # A user who was just linked or unblocked may confirm at once.
    return SharedDirectory(SqlDirectory(records.people), refusal_ttl=0)


DIRECTORIES: Mapping[str, Callable[[Settings, Records, Clock], Directory]] = {
    "open": lambda settings, records, clock: OpenDirectory(),
    "sql": _sql,
    "https": _webhook,
    "http": _webhook,
}
"""How each directory is made from the settings, by name or by the scheme of its URL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """The parts that do not depend on the wire.

    users_are_recorded: whether a confirm looks up the person in the records.
    """

    clock: Clock
    apps: SettingsApps
    issuer: Issuer
    sessions: Sessions
    flow: Flow
    lobby: Lobby
    keeper: Keeper
    store: Store
    bus: Bus
    accounts: Accounts
    directory: Directory
    pictures: Pictures
    records: Records
    monitor: Monitor
    users_are_recorded: bool

    def records_trouble(self) -> str | None:
        """Why no login can be confirmed until an operator acts; None if logins can."""
        return self.records.trouble() if self.users_are_recorded else None

    async def open(self) -> None:
        """Raises RecordsUnusable."""
        await self.records.open()  # alone: without apps nobody can be served
        if self.records.was_created:
            log.info("database file created", place=self.records.place)
        await asyncio.gather(
            self.store.open(), self.bus.open(), self.accounts.open(), self.directory.open()
        )
        await self.monitor.open()

    async def close(self) -> None:
        await self.monitor.close()
        await self.flow.close()
        await self.directory.close()
        await self.accounts.close()
        await self.bus.close()
        await self.store.close()
        await self.records.close()


def open_core(settings: Settings, clock: Clock | None, directory: Directory | None) -> Core:
    store, bus = _connections(settings, clock)
    clock = store.clock
    records = records_of(settings, clock)
    apps = apps_of(settings, records)
    accounts = _accounts(settings, apps, records)
    users_are_recorded = directory is None and settings.directory == "sql"
    directory = directory or _directory(settings, records, clock)
    pictures = pictures_of(settings)
    pool = _pool(settings, store, pictures)
    images = LoginImages(store=store.images, duties=store.duties, instance=settings.instance)
    issuer = _issuer(settings)
    flow = Flow(
        logins=store.logins,
        bus=bus,
        apps=apps,
        trail=records.trail,
        codes=CodeSource(accounts=accounts, pool=pool, images=images),
        directory=directory,
        issuer=issuer,
        clock=clock,
        instance=settings.instance,
        lifetime=settings.login_lifetime,
        register_lifetime=settings.register_lifetime,
    )
    return Core(
        clock=clock,
        apps=apps,
        issuer=issuer,
        sessions=Sessions(
            store=store.sessions,
            accounts=accounts,
            directory=recent(directory),
            apps=apps,
            seal_keys=records.seal_keys,
            clock=clock,
            lifetime=settings.session_lifetime,
            idle=settings.session_idle or settings.session_lifetime,
        ),
        flow=flow,
        lobby=Lobby(bus=bus, flow=flow, clock=clock, instance=settings.instance),
        keeper=_keeper(settings, apps, accounts, records, store, pictures, pool),
        store=store,
        bus=bus,
        accounts=accounts,
        directory=directory,
        pictures=pictures,
        records=records,
        monitor=Monitor(
            store=store,
            issuer=issuer,
            seal_keys=records.seal_keys,
            instance=settings.instance,
        ),
        users_are_recorded=users_are_recorded,
    )


def _pool(settings: Settings, store: Store, pictures: Pictures) -> Pool:
    return Pool(
        leases=store.leases,
        pictures=pictures,
        clock=store.clock,
        rest=settings.pool_rest,
        uses=settings.pool_uses,
    )


def _issuer(settings: Settings) -> Issuer:
    return Issuer(
        file=KeyFile(settings.key_file),
        algorithm=settings.token_algorithm,
        issuer=settings.public_url,
        lifetime=settings.token_lifetime,
    )


def _keeper(
    settings: Settings,
    apps: Apps,
    accounts: Accounts,
    records: Records,
    store: Store,
    pictures: Pictures,
    pool: Pool,
) -> Keeper:
    limits = Limits(
        life=settings.login_lifetime,
        rest=settings.pool_rest,
        size=settings.pool_size,
        most=settings.pool_max,
        age=settings.pool_age,
        per_minute=settings.pool_per_minute,
    )
    parts = Parts(
        accounts=accounts,
        codes=records.codes,
        pictures=pictures,
        leases=store.leases,
        duties=store.duties,
        clock=store.clock,
        instance=settings.instance,
        limits=limits,
    )
    kept = [default_app(settings).key]
    return Keeper(apps=apps, parts=parts, worn=pool.worn, missed=pool.missed, kept=kept)


def apps_of(settings: Settings, records: Records) -> SettingsApps:
    return SettingsApps([default_app(settings)], records.apps)


def _accounts(settings: Settings, apps: Apps, records: Records) -> Accounts:
    own = [Account("pretend")] if settings.may_pretend else []
    if settings.wechat_appid is not None and settings.wechat_secret is not None:
        own.append(
            Account("wechat", settings.wechat_appid, settings.wechat_secret.get_secret_value())
        )
    return Accounts(
        apps=apps,
        secrets=records.apps,
        own=own,
        makers={name: partial(make, settings) for name, make in PROVIDERS.items()},
    )


def _directory(settings: Settings, records: Records, clock: Clock) -> Directory:
    name = urlsplit(settings.directory).scheme or settings.directory
    return DIRECTORIES[name](settings, records, clock)


def records_of(settings: Settings, clock: Clock) -> Records:
    """The records that the settings name, not yet connected.

    Raises KeyFileUnusable, or SettingsWrong for an address that names nothing.
    """
    try:
        return open_records(
            settings.records_url,
            load_seal_keys=partial(_seal_keys, settings),
            providers=(settings.provider, *(name for name in NAMES if name != settings.provider)),
            taken=(DEFAULT_APP,),
            clock=clock,
            trail_lifetime=settings.trail_lifetime,
            pgbouncer=settings.records_pgbouncer,
        )
    except ValueError as error:
        raise SettingsWrong([f"{PREFIX}RECORDS_URL: {error}"]) from None


def pictures_of(settings: Settings) -> Pictures:
    """Where the settings keep pictures; raises SettingsWrong for an address that names nothing."""
    try:
        return Pictures(
            settings.pictures_url,
            public_url=settings.pictures_public_url,
            endpoint=settings.pictures_endpoint,
        )
    except ValueError as error:
        raise SettingsWrong([f"{PREFIX}PICTURES_URL: {error}"]) from None


async def check_parts(settings: Settings) -> list[str]:
    """The reasons why the parts cannot be built.  Connects to nothing and writes nothing."""
    mistakes = []
    for check in (_check_connections, _check_records, _check_pictures, _check_keys):
        try:
            await check(settings)
        except StartError as error:
            mistakes.append(str(error))
    return mistakes


async def _check_connections(settings: Settings) -> None:
    store, bus = _connections(settings, None)
    await store.close()
    await bus.close()


async def _check_records(settings: Settings) -> None:
    records = records_of(settings, time.time)
    try:
        await records.check_options()
    except ValueError as error:
        raise SettingsWrong([f"{PREFIX}RECORDS_URL: {error}"]) from None
    finally:
        await records.close()


async def _check_pictures(settings: Settings) -> None:
    pictures_of(settings)


async def _check_keys(settings: Settings) -> None:
    KeyFile(settings.key_file).load()


def _seal_keys(settings: Settings) -> Keys:
    given = [read_key(key.get_secret_value()) for key in settings.seal_keys]
    return given or SealFile(settings.seal_file).keys()


def _connections(settings: Settings, clock: Clock | None) -> tuple[Store, Bus]:
    """State and bus; raises SettingsWrong for an address that is none."""
    bus_url = settings.bus_url or settings.state_url
    name = "STATE_URL"
    try:
        store = open_state(
            settings.state_url,
            clock,
            replicas=settings.replicas,
            tells=bus_url == settings.state_url,
        )
        name = "BUS_URL"
        return store, open_bus(bus_url)
    except ValueError as error:
        raise SettingsWrong([f"{PREFIX}{name}: {error}"]) from None


def default_app(settings: Settings) -> App:
    return App(
        id=DEFAULT_APP,
        name=settings.app_name,
        origins=frozenset(settings.origins),
        register_url=settings.register_url,
        provider=settings.provider,
        code_source=settings.code_source,
    )


@asynccontextmanager
async def leases_of(settings: Settings) -> AsyncIterator[Leases | None]:
    """The brokers' pools, to be used meanwhile; None where they cannot be reached from here."""
    store, bus = _connections(settings, None)
    shared = urlsplit(settings.state_url).scheme != "memory"
    try:
        if shared:
            await store.open()
        yield store.leases if shared and store.trouble() is None else None
    finally:
        await store.close()
        await bus.close()


@asynccontextmanager
async def provider_of(settings: Settings, records: Records, app_id: str) -> AsyncIterator[Provider]:
    """The provider of an app, by open records, to be used meanwhile.

    Raises UnknownApp, or ProviderFails, whose `reason` says more.
    """
    apps = apps_of(settings, records)
    app = await apps.get(app_id)
    if app is None:
        raise UnknownApp
    accounts = _accounts(settings, apps, records)
    try:
        yield await accounts.provider(app)
    finally:
        await accounts.close()


async def try_provider(settings: Settings, records: Records, app_id: str) -> str:
    """Draw a code that nobody will scan; the name of the provider that did.  Raises as above."""
    async with provider_of(settings, records, app_id) as provider:
        await provider.draw("a" * provider.scene_max)
        return provider.name
