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

from broker.apps.errors import UnknownApp
from broker.apps.model import DEFAULT_APP, App
from broker.apps.ports import Apps
from broker.apps.registry import AppRegistry
from broker.blobs.pictures import ObjectPictureStore
from broker.bus import open_bus
from broker.directories.open import OpenDirectory
from broker.directories.shared import SharedDirectory, recent
from broker.directories.sql import SqlDirectory
from broker.directories.webhook import WebhookDirectory
from broker.errors import InvalidSettings, StartupError
from broker.identity.errors import MISCONFIGURED_RETRY_AFTER, ProviderUnavailable
from broker.identity.model import ProviderAccount
from broker.identity.ports import Directory, Provider
from broker.identity.registry import ProviderRegistry
from broker.infrastructure.clock import Clock
from broker.infrastructure.coordination import Bus
from broker.infrastructure.crypto.sealing import KeyList, SealKeyFile, parse_key
from broker.infrastructure.settings import Settings
from broker.infrastructure.settings_sources import PREFIX
from broker.login.codes import CodeSource, LoginImages
from broker.login.delivery import Redeemer
from broker.login.lobby import Lobby
from broker.login.ports import LOGIN_RETENTION
from broker.login.service import LoginService
from broker.login.services import create_login_services
from broker.monitoring.monitor import Monitor
from broker.pool.code_pool import CodePool
from broker.pool.dependencies import PoolDependencies, PoolLimits
from broker.pool.ports import CodeLeases
from broker.pool.scheduler import PoolScheduler
from broker.providers import NAMES
from broker.providers.pretend import PretendProvider
from broker.providers.settings import is_pretend_allowed
from broker.providers.wechat.provider import WeChatProvider
from broker.providers.wechat.settings import APPID_PATTERN
from broker.records.store import Records, open_records
from broker.sessions.service import SessionService
from broker.state import StateBackend, open_state
from broker.tokens.issuer import TokenIssuer
from broker.tokens.keys import SigningKeyFile

log = structlog.get_logger()


def open_pretend(settings: Settings, account: ProviderAccount) -> Provider:
    if not is_pretend_allowed(settings):
        raise ProviderUnavailable(
            "the provider pretend lets anyone log in as anyone, and other machines can reach this "
            f"broker: give the app the provider wechat, or set {PREFIX}ALLOW_PRETEND=true for a "
            "trial in a network that you trust",
            MISCONFIGURED_RETRY_AFTER,
        )
    return PretendProvider(phone_page_url=settings.phone_page_url)


def open_wechat(settings: Settings, account: ProviderAccount) -> Provider:
    if not (re.fullmatch(APPID_PATTERN, account.app_id) and account.secret):
        raise ProviderUnavailable(
            f"the provider wechat wants an AppID and an AppSecret, and {account.app_id!r} "
            f"{'has no secret' if account.secret == '' else 'is no AppID'}",
            MISCONFIGURED_RETRY_AFTER,
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


PROVIDERS: Mapping[str, Callable[[Settings, ProviderAccount], Provider]] = {
    "pretend": open_pretend,
    "wechat": open_wechat,
}
"""How each provider is made for an account, by name."""


def open_directory(settings: Settings, records: Records, clock: Clock) -> Directory:
    webhook = WebhookDirectory(
        url=settings.directory,
        signing_secrets=[one.get_secret_value() for one in settings.directory_secret],
        allow_private_address=settings.directory_private,
        clock=clock,
    )
    return SharedDirectory(webhook)


def _sql(settings: Settings, records: Records, clock: Clock) -> Directory:
    # A user who was just linked or unblocked may confirm at once.
    return SharedDirectory(SqlDirectory(records.user_lookup), refusal_ttl=0)


DIRECTORIES: Mapping[str, Callable[[Settings, Records, Clock], Directory]] = {
    "open": lambda settings, records, clock: OpenDirectory(),
    "sql": _sql,
    "https": open_directory,
    "http": open_directory,
}
"""How each directory is made from the settings, by name or by the scheme of its URL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """The parts that do not depend on the wire.

    users_are_recorded: whether a confirm looks up the person in the records.
    """

    clock: Clock
    apps: AppRegistry
    issuer: TokenIssuer
    sessions: SessionService
    flow: LoginService
    redeemer: Redeemer
    lobby: Lobby
    keeper: PoolScheduler
    store: StateBackend
    bus: Bus
    accounts: ProviderRegistry
    directory: Directory
    pictures: ObjectPictureStore
    records: Records
    monitor: Monitor
    users_are_recorded: bool

    def records_trouble(self) -> str | None:
        """Why no login can be confirmed until an operator acts; None if logins can."""
        return self.records.trouble() if self.users_are_recorded else None

    async def open(self) -> None:
        """Raises RecordsStartupError."""
        await self.records.open()  # alone: without apps nobody can be served
        if self.records.was_created:
            log.info("database file created", place=self.records.location)
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


def open_context(settings: Settings, clock: Clock | None, directory: Directory | None) -> Core:
    store, bus = _open_state_and_bus(settings, clock)
    clock = store.clock
    records = records_of(settings, clock)
    apps = open_apps(settings, records)
    accounts = _provider_registry(settings, apps, records)
    users_are_recorded = directory is None and settings.directory == "sql"
    directory = directory or _directory(settings, records, clock)
    pictures = open_pictures(settings)
    pool = _pool(settings, store, pictures)
    images = LoginImages(
        store=store.images, leader_leases=store.leader_leases, instance=settings.instance
    )
    issuer = _issuer(settings)
    login = create_login_services(
        logins=store.logins,
        bus=bus,
        apps=apps,
        audit_log=records.audit_log,
        codes=CodeSource(providers=accounts, pool=pool, images=images),
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
        sessions=SessionService(
            store=store.sessions,
            providers=accounts,
            directory=recent(directory),
            apps=apps,
            secret_box=records.secret_box,
            clock=clock,
            lifetime=settings.session_lifetime,
            idle_timeout=settings.session_idle or settings.session_lifetime,
        ),
        flow=login.service,
        redeemer=login.redeemer,
        lobby=Lobby(bus=bus, reader=login.reader, clock=clock, instance=settings.instance),
        keeper=_pool_scheduler(settings, apps, accounts, records, store, pictures, pool),
        store=store,
        bus=bus,
        accounts=accounts,
        directory=directory,
        pictures=pictures,
        records=records,
        monitor=Monitor(
            state=store,
            token_key_ids=issuer.key_ids,
            secret_box=records.secret_box,
            instance=settings.instance,
        ),
        users_are_recorded=users_are_recorded,
    )


def _pool(settings: Settings, store: StateBackend, pictures: ObjectPictureStore) -> CodePool:
    return CodePool(
        leases=store.code_leases,
        pictures=pictures,
        clock=store.clock,
        cooldown=settings.pool_rest,
        retention=LOGIN_RETENTION,
        uses=settings.pool_uses,
    )


def _issuer(settings: Settings) -> TokenIssuer:
    return TokenIssuer(
        file=SigningKeyFile(settings.key_file),
        algorithm=settings.token_algorithm,
        issuer=settings.public_url,
        lifetime=settings.token_lifetime,
    )


def _pool_scheduler(
    settings: Settings,
    apps: Apps,
    accounts: ProviderRegistry,
    records: Records,
    store: StateBackend,
    pictures: ObjectPictureStore,
    pool: CodePool,
) -> PoolScheduler:
    limits = PoolLimits(
        login_lifetime=settings.login_lifetime,
        retention=LOGIN_RETENTION,
        cooldown=settings.pool_rest,
        min_size=settings.pool_size,
        max_size=settings.pool_max,
        max_age=settings.pool_age,
        per_minute=settings.pool_per_minute,
    )
    dependencies = PoolDependencies(
        providers=accounts,
        codes=records.code_store,
        pictures=pictures,
        leases=store.code_leases,
        leader_leases=store.leader_leases,
        clock=store.clock,
        instance=settings.instance,
        limits=limits,
    )
    return PoolScheduler(
        apps=apps,
        dependencies=dependencies,
        codes_to_retire=pool.codes_to_retire,
        missed_leases=pool.missed_leases,
        settings_apps=[default_app(settings).key],
    )


def open_apps(settings: Settings, records: Records) -> AppRegistry:
    return AppRegistry([default_app(settings)], records.apps)


def _provider_registry(settings: Settings, apps: Apps, records: Records) -> ProviderRegistry:
    own = [ProviderAccount("pretend")] if is_pretend_allowed(settings) else []
    if settings.wechat_appid is not None and settings.wechat_secret is not None:
        own.append(
            ProviderAccount(
                "wechat", settings.wechat_appid, settings.wechat_secret.get_secret_value()
            )
        )
    return ProviderRegistry(
        apps=apps,
        secrets=records.apps,
        default_accounts=own,
        factories={name: partial(make, settings) for name, make in PROVIDERS.items()},
    )


def _directory(settings: Settings, records: Records, clock: Clock) -> Directory:
    name = urlsplit(settings.directory).scheme or settings.directory
    return DIRECTORIES[name](settings, records, clock)


def records_of(settings: Settings, clock: Clock) -> Records:
    """The records that the settings name, not yet connected.

    Raises KeyFileError, or InvalidSettings for an address that names nothing.
    """
    try:
        return open_records(
            settings.records_url,
            load_seal_keys=partial(_seal_keys, settings),
            providers=(settings.provider, *(name for name in NAMES if name != settings.provider)),
            reserved_ids=(DEFAULT_APP,),
            clock=clock,
            trail_lifetime=settings.trail_lifetime,
            pgbouncer=settings.records_pgbouncer,
        )
    except ValueError as error:
        raise InvalidSettings([f"{PREFIX}RECORDS_URL: {error}"]) from None


def open_pictures(settings: Settings) -> ObjectPictureStore:
    """Where the settings keep pictures; raises InvalidSettings for an address that names
    nothing.
    """
    try:
        return ObjectPictureStore(
            settings.pictures_url,
            public_url=settings.pictures_public_url,
            endpoint=settings.pictures_endpoint,
        )
    except ValueError as error:
        raise InvalidSettings([f"{PREFIX}PICTURES_URL: {error}"]) from None


async def check_parts(settings: Settings) -> list[str]:
    """The reasons why the parts cannot be built.  Connects to nothing and writes nothing."""
    mistakes = []
    for check in (_check_connections, _check_records, _check_pictures, _check_keys):
        try:
            await check(settings)
        except StartupError as error:
            mistakes.append(str(error))
    return mistakes


async def _check_connections(settings: Settings) -> None:
    store, bus = _open_state_and_bus(settings, None)
    await store.close()
    await bus.close()


async def _check_records(settings: Settings) -> None:
    records = records_of(settings, time.time)
    try:
        await records.check_options()
    except ValueError as error:
        raise InvalidSettings([f"{PREFIX}RECORDS_URL: {error}"]) from None
    finally:
        await records.close()


async def _check_pictures(settings: Settings) -> None:
    open_pictures(settings)


async def _check_keys(settings: Settings) -> None:
    SigningKeyFile(settings.key_file).load()


def _seal_keys(settings: Settings) -> KeyList:
    given = [parse_key(key.get_secret_value()) for key in settings.seal_keys]
    return given or SealKeyFile(settings.seal_file).keys()


def _open_state_and_bus(settings: Settings, clock: Clock | None) -> tuple[StateBackend, Bus]:
    """State and bus; raises InvalidSettings for an address that is none."""
    bus_url = settings.bus_url or settings.state_url
    name = "STATE_URL"
    try:
        store = open_state(
            settings.state_url,
            clock,
            replicas=settings.replicas,
            publishes=bus_url == settings.state_url,
        )
        name = "BUS_URL"
        return store, open_bus(bus_url)
    except ValueError as error:
        raise InvalidSettings([f"{PREFIX}{name}: {error}"]) from None


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
async def open_code_leases(settings: Settings) -> AsyncIterator[CodeLeases | None]:
    """The brokers' pools, to be used meanwhile; None where they cannot be reached from here."""
    store, bus = _open_state_and_bus(settings, None)
    shared = urlsplit(settings.state_url).scheme != "memory"
    try:
        if shared:
            await store.open()
        yield store.code_leases if shared and store.unavailable_reason() is None else None
    finally:
        await store.close()
        await bus.close()


@asynccontextmanager
async def open_app_provider(
    settings: Settings, records: Records, app_id: str
) -> AsyncIterator[Provider]:
    """The provider of an app, by open records, to be used meanwhile.

    Raises UnknownApp, or ProviderUnavailable, whose `reason` says more.
    """
    apps = open_apps(settings, records)
    app = await apps.get(app_id)
    if app is None:
        raise UnknownApp
    accounts = _provider_registry(settings, apps, records)
    try:
        yield await accounts.get(app)
    finally:
        await accounts.close()


async def try_provider(settings: Settings, records: Records, app_id: str) -> str:
    """Draw a code that nobody will scan; the name of the provider that did.  Raises as above."""
    async with open_app_provider(settings, records, app_id) as provider:
        await provider.draw("a" * provider.scene_max)
        return provider.name
