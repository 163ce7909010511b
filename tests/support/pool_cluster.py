"""Instances that maintain the pools of a shared state and shared records."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import replace

import pytest
import sqlalchemy as sa
import structlog
from prometheus_client import REGISTRY

from broker.apps.model import App
from broker.blobs.pictures import ObjectPictureStore
from broker.identity.model import ProviderAccount
from broker.identity.ports import Provider
from broker.identity.registry import ProviderRegistry
from broker.login.ports import LOGIN_RETENTION
from broker.pool.cleaner import REMOVED_APPS_INTERVAL
from broker.pool.dependencies import PoolDependencies, PoolLimits
from broker.pool.model import CodeKey, CodeRecord, LeasedCode, PoolLevel
from broker.pool.scheduler import PoolScheduler
from broker.pool.verifier import verify_codes
from broker.records import tables as t
from broker.records.database import Database
from broker.records.pool_codes import SqlCodeStore
from broker.state import StateBackend, open_state
from tests.support.builders import SHOP, Clock, EmptyAppSecrets
from tests.support.pool import CountingProvider
from tests.support.records import record_app
from tests.support.waiting import eventually, opened

RECORDS_OF_STATE: Mapping[str, str] = {
    "memory": "sqlite",
    "redis": "postgresql",
    "valkey": "sqlite",
}
"""The kind of records for each kind of state."""

LIFETIME, COOLDOWN, MAX_AGE = 120.0, 600.0, 86_400.0
SIZE = 10
TIMEOUT = 40.0
"""Seconds; enough for a busy machine."""

LIMITS = PoolLimits(
    login_lifetime=LIFETIME,
    retention=LOGIN_RETENTION,
    cooldown=COOLDOWN,
    min_size=SIZE,
    max_size=SIZE,
    max_age=MAX_AGE,
    per_minute=1e6,
)
POOLED = replace(SHOP, code_source="pool")


class MovingClock(Clock):
    """Runs with the real time, and can be moved forward."""

    def __call__(self) -> float:
        return self.time + time.monotonic()


class AppList:
    """A changeable list of apps."""

    def __init__(self, *apps: App) -> None:
        self.apps = {app.id: app for app in apps}

    def get(self, app_id: str) -> App | None:
        return self.apps.get(app_id)

    def with_pool(self) -> Collection[App]:
        return [app for app in self.apps.values() if app.code_source == "pool"]

    def origins(self) -> frozenset[str]:
        return frozenset()


class Instance:
    """The scheduler of one broker, and its dependencies."""

    def __init__(
        self, scheduler: PoolScheduler, store: StateBackend, codes_to_retire: set[CodeKey]
    ) -> None:
        self.scheduler = scheduler
        self.store = store
        self.codes_to_retire = codes_to_retire
        self.rounds = 0
        self._maintain_all = scheduler._maintain_all
        self.round_lock = asyncio.Lock()
        scheduler._maintain_all = self._run_round  # type: ignore[method-assign]
        self.task = asyncio.create_task(scheduler.run())

    async def _run_round(self) -> None:
        async with self.round_lock:
            await self._maintain_all()
        self.rounds += 1

    async def wait_for_round(self) -> None:
        """Return when a round has begun and ended from now on."""
        rounds = self.rounds
        await eventually(lambda: self.rounds >= rounds + 2, within=TIMEOUT)

    async def level(self, app: str = "shop") -> PoolLevel:
        return await self.store.code_leases.level(app)

    async def lease(self) -> LeasedCode | None:
        clock = self.store.clock
        return await self.store.code_leases.lease(
            "shop", until=clock() + LIFETIME, cooldown=COOLDOWN
        )

    async def end(self) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


class Cluster:
    """Resources shared by instances: state, records, pictures, a provider, apps, the time.

    store: the memory state; unused with Redis.
    statement_timeout: of the databases of instances that start; generous for a busy machine.
    """

    def __init__(
        self,
        *,
        engine: str,
        url: str,
        records: str,
        pictures: ObjectPictureStore,
        stack: AsyncExitStack,
    ) -> None:
        self.engine = engine
        self.url = url
        self.records = records
        self.pictures = pictures
        self.stack = stack
        self.clock = MovingClock()
        self.timer: Callable[[], float] = self.clock
        self.apps = AppList(POOLED)
        self.counting = CountingProvider()
        self.make: Callable[[], Provider] = lambda: self.counting
        self.missed: Counter[str] = Counter()
        self.statement_timeout = 60.0
        self.database = Database(records)
        self.codes = SqlCodeStore(self.database, clock=self.clock)
        stack.push_async_callback(self.database.close)
        self.store = open_state("memory://", self.clock)

    def forget(self) -> None:
        """Lose the memory state, as when a process ends."""
        self.store = open_state("memory://", self.clock)

    async def start(
        self,
        name: str = "one",
        *,
        removed_apps_interval: float = REMOVED_APPS_INTERVAL,
        **changes: object,
    ) -> Instance:
        store = self.store
        if self.engine != "memory":
            store = open_state(self.url, self.clock)
            await opened(store)
            self.stack.push_async_callback(store.close)
        database = Database(self.records, statement_timeout=self.statement_timeout)
        self.stack.push_async_callback(database.close)
        accounts = ProviderRegistry(
            apps=self.apps,
            secrets=EmptyAppSecrets(),
            default_accounts=[ProviderAccount("pretend")],
            factories={"pretend": lambda account: self.make()},
        )
        self.stack.push_async_callback(accounts.close)
        dependencies = PoolDependencies(
            providers=accounts,
            codes=SqlCodeStore(database, clock=self.clock),
            pictures=self.pictures,
            leases=store.code_leases,
            leader_leases=store.leader_leases,
            clock=self.clock,
            instance=name,
            limits=replace(LIMITS, **changes),  # type: ignore[arg-type]
            retry_delays=(0.05, 0.1),
            timer=self.timer,
        )
        codes_to_retire: set[CodeKey] = set()
        scheduler = PoolScheduler(
            apps=self.apps,
            dependencies=dependencies,
            codes_to_retire=codes_to_retire,
            missed_leases=self.missed,
            settings_apps=["shop"],
            poll_interval=0.1,
            removed_apps_interval=removed_apps_interval,
        )
        instance = Instance(scheduler, store, codes_to_retire)
        self.stack.push_async_callback(instance.end)
        return instance

    async def ready(self, app: str = "shop") -> dict[int, CodeRecord]:
        return {code.number: code async for some in self.codes.ready(app) for code in some}

    async def has_ready(self, app: str, count: int) -> bool:
        return len(await self.ready(app)) == count

    async def record(self, app: App) -> None:
        self.apps.apps[app.id] = app
        await record_app(self.database, app)

    async def remove(self, app: App) -> None:
        del self.apps.apps[app.id]
        async with self.database.write_transaction() as connection:
            await connection.execute(sa.delete(t.apps).filter_by(id=app.id))

    async def is_whole(self, count: int = SIZE) -> bool:
        """Return whether `count` codes are ready, and all of them are valid."""
        if list(await self.ready()) != list(range(count)):
            return False
        return not await verify_codes(codes=self.codes, pictures=self.pictures, app="shop")


class LogLines:
    """The lines that were logged so far."""

    def __init__(self, lines: list[structlog.typing.EventDict]) -> None:
        self._lines = lines

    def count(self, event: str) -> int:
        return sum(line["event"] == event for line in self._lines)

    def reasons(self, event: str) -> list[str]:
        return [str(line["reason"]) for line in self._lines if line["event"] == event]


def metric(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, {"app": "shop", **labels})


async def is_free(instance: Instance, count: int) -> bool:
    return (await instance.level()).free == count


async def soon(condition: Callable[[], Awaitable[object]]) -> None:
    await eventually(condition, within=TIMEOUT)


async def filled(cluster: Cluster, instance: Instance, count: int = SIZE) -> None:
    async def is_filled() -> bool:
        return (await instance.level()).total >= count and len(await cluster.ready()) >= count

    await soon(is_filled)


only_memory = pytest.mark.parametrize("cluster_state", ["memory"], indirect=True)
only_redis = pytest.mark.parametrize("cluster_state", ["redis"], indirect=True)
