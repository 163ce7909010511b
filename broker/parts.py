"""The parts that know nothing of the wire, made as the settings want them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from broker.apps.ports import Apps
from broker.apps.registry import AppRegistry
from broker.backends import (
    default_app,
    open_apps,
    open_pictures,
    open_provider_registry,
    open_records,
    open_state_and_bus,
)
from broker.blobs.pictures import ObjectPictureStore
from broker.directories import open_directory
from broker.directories.shared import recent
from broker.identity.ports import Directory
from broker.identity.registry import ProviderRegistry
from broker.infrastructure.clock import Clock
from broker.infrastructure.coordination import Bus
from broker.infrastructure.settings import Settings
from broker.login.codes import CodeSource, LoginImages
from broker.login.delivery import Redeemer
from broker.login.lobby import Lobby
from broker.login.ports import LOGIN_RETENTION
from broker.login.service import LoginService
from broker.login.services import create_login_services
from broker.monitoring.monitor import Monitor
from broker.pool.code_pool import CodePool
from broker.pool.dependencies import PoolDependencies, PoolLimits
from broker.pool.scheduler import PoolScheduler
from broker.records.store import Records
from broker.sessions.service import SessionService
from broker.state import StateBackend
from broker.tokens.issuer import TokenIssuer
from broker.tokens.keys import SigningKeyFile

log = structlog.get_logger()


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
    store, bus = open_state_and_bus(settings, clock)
    clock = store.clock
    records = open_records(settings, clock)
    apps = open_apps(settings, records)
    accounts = open_provider_registry(settings, apps, records)
    users_are_recorded = directory is None and settings.directory == "sql"
    directory = directory or open_directory(settings, records.user_lookup, clock)
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
