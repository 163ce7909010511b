"""The background maintenance of pools, with each kind of state and records."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AsyncExitStack, closing, suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import sqlalchemy as sa
import structlog
from prometheus_client import REGISTRY

from broker.apps.model import App
from broker.apps.rules import LIFETIME_MAX
from broker.apps.settings import AppSettings
from broker.blobs.pictures import ObjectPictureStore
from broker.errors import Unavailable
from broker.identity.errors import ProviderUnavailable
from broker.identity.model import ProviderAccount
from broker.identity.ports import CodePicture, Provider
from broker.identity.registry import ProviderRegistry
from broker.login.ports import LOGIN_RETENTION
from broker.pool.cleaner import CLEANING_INTERVAL
from broker.pool.dependencies import CLOCK_SKEW_OVERLAP, PoolDependencies, PoolLimits
from broker.pool.filler import RESERVATION_TIMEOUT
from broker.pool.maintainer import CLEANUP_INTERVAL, LEASE_TTL
from broker.pool.model import CodeKey, CodeRecord, LeasedCode, PoolLevel
from broker.pool.scheduler import PoolScheduler
from broker.pool.verifier import verify_codes
from broker.providers.pretend import PretendProvider
from broker.records import tables as t
from broker.records.database import Database
from broker.records.pool_codes import SqlCodeStore
from broker.state import StateBackend, open_state
from tests.support.builders import SHOP, Clock, EmptyAppSecrets, RunningBroker, StartBroker
from tests.support.commands import COMMAND
from tests.support.pool import PUBLIC, CountingProvider
from tests.support.records import database_of
from tests.support.servers.postgres import PostgresServer
from tests.support.servers.redis import Engines
from tests.support.servers.s3 import running_s3
from tests.support.waiting import eventually, opened
from tests.support.wechat import DRAW, Pretending, pretending
from tests.support.wechat import provider_of as wechat_at

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

pytestmark = pytest.mark.usefixtures("patient_provider")


class MovingClock(Clock):
    """Runs with the real time, and can be moved forward."""

    def __call__(self) -> float:
        return self.time + time.monotonic()


class AppList:
    """A changeable list of apps."""

    def __init__(self, *apps: App) -> None:
        self.apps = {app.id: app for app in apps}

    async def get(self, app_id: str) -> App | None:
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
        self.database = Database(records)
        self.codes = SqlCodeStore(self.database, clock=self.clock)
        stack.push_async_callback(self.database.close)
        self.store = open_state("memory://", self.clock)

    def forget(self) -> None:
        """Lose the memory state, as when a process ends."""
        self.store = open_state("memory://", self.clock)

    async def start(
        self, name: str = "one", *, cleaning_interval: float = CLEANING_INTERVAL, **changes: object
    ) -> Instance:
        store = self.store
        if self.engine != "memory":
            store = open_state(self.url, self.clock)
            await opened(store)
            self.stack.push_async_callback(store.close)
        database = Database(self.records, statement_timeout=1)
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
            cleaning_interval=cleaning_interval,
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
        row = {"id": app.id, "name": app.name, "provider": "pretend", "provider_app_id": ""}
        lists: dict[str, object] = {"origins": [], "redirect_urls": [], "code_source": "pool"}
        times = {"created_at": 0, "changed_at": 0, "incarnation": app.incarnation}
        async with self.database.write_transaction() as connection:
            await connection.execute(sa.insert(t.apps).values(row | lists | times))

    async def remove(self, app: App) -> None:
        del self.apps.apps[app.id]
        async with self.database.write_transaction() as connection:
            await connection.execute(sa.delete(t.apps).filter_by(id=app.id))

    async def is_whole(self, count: int = SIZE) -> bool:
        """Return whether `count` codes are ready, and all of them are valid."""
        if list(await self.ready()) != list(range(count)):
            return False
        return not await verify_codes(codes=self.codes, pictures=self.pictures, app="shop")


@pytest.fixture(params=RECORDS_OF_STATE)
def engine(request: pytest.FixtureRequest, engines: Engines) -> str:
    engines.empty(request.param)
    return str(request.param)


@pytest.fixture
def records(engine: str, request: pytest.FixtureRequest) -> str:
    return database_of(RECORDS_OF_STATE[engine], request)


@pytest.fixture
async def cluster(
    engine: str, engines: Engines, records: str, tmp_path: Path
) -> AsyncIterator[Cluster]:
    folder = ObjectPictureStore((tmp_path / "pictures").as_uri(), public_url=PUBLIC)
    url = engines.url(engine)
    async with AsyncExitStack() as stack:
        yield Cluster(engine=engine, url=url, records=records, pictures=folder, stack=stack)


only_memory = pytest.mark.parametrize("engine", ["memory"], indirect=True)
only_redis = pytest.mark.parametrize("engine", ["redis"], indirect=True)


class LogLines:
    """The lines that were logged so far."""

    def __init__(self, lines: list[structlog.typing.EventDict]) -> None:
        self._lines = lines

    def count(self, event: str) -> int:
        return sum(line["event"] == event for line in self._lines)

    def reasons(self, event: str) -> list[str]:
        return [str(line["reason"]) for line in self._lines if line["event"] == event]


@pytest.fixture
def lines() -> Iterator[LogLines]:
    with structlog.testing.capture_logs() as captured:
        yield LogLines(captured)


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


# --- removed apps


async def test_app_under_reused_id_has_own_codes(cluster: Cluster) -> None:
    one = await cluster.start()
    await filled(cluster, one)
    former = {code.scene for code in (await cluster.ready()).values()}
    current = replace(POOLED, incarnation="1" * 16)

    cluster.apps.apps["shop"] = current

    async def is_filled() -> bool:
        return (await one.level(current.key)).free == SIZE

    await soon(is_filled)
    scenes = {code.scene for code in (await cluster.ready(current.key)).values()}
    leased = await one.store.code_leases.lease(
        current.key, until=one.store.clock() + LIFETIME, cooldown=COOLDOWN
    )
    assert leased is not None
    assert leased.code.scene in scenes
    assert len(scenes | former) == 2 * SIZE


async def test_pools_of_removed_apps_are_deleted(cluster: Cluster) -> None:
    removed = replace(POOLED, id="removed", incarnation="1" * 16)
    recorded = replace(POOLED, id="recorded", incarnation="2" * 16)
    for app in (removed, recorded):
        await cluster.record(app)
    one = await cluster.start(cleaning_interval=0.1)
    for app in (POOLED, removed, recorded):
        await soon(lambda app=app: cluster.has_ready(app.key, SIZE))
    pictures = [code.picture for code in (await cluster.ready(removed.key)).values()]

    await cluster.remove(removed)
    await soon(lambda: cluster.has_ready(removed.key, 0))
    shown = [await cluster.pictures.get(picture) for picture in pictures]
    cluster.clock.time += LIFETIME_MAX + LOGIN_RETENTION + CLOCK_SKEW_OVERLAP + 1

    async def is_cleared() -> bool:
        return removed.key not in {one.app for one in await cluster.codes.counts()}

    await soon(is_cleared)
    assert None not in shown
    assert [await cluster.pictures.get(picture) for picture in pictures] == [None] * SIZE
    assert (await one.level(removed.key)).total == 0
    for app in (POOLED, recorded):
        assert await cluster.has_ready(app.key, SIZE)


# --- filling


async def test_new_pool_is_filled_and_free_at_once(cluster: Cluster, lines: LogLines) -> None:
    drawn = metric("scanlogin_pool_drawn_total") or 0
    one = await cluster.start()

    await soon(lambda: is_free(one, SIZE))

    assert await cluster.is_whole()
    assert set(cluster.counting.draws.values()) == {1}
    assert metric("scanlogin_pool_drawn_total") == drawn + SIZE
    await eventually(lambda: metric("scanlogin_pool_codes", state="free") == SIZE)
    assert metric("scanlogin_pool_low") == 0
    assert (lines.count("pool empty"), lines.count("pool recovered")) == (1, 1)


async def test_pool_grows_with_leases_up_to_its_maximum(cluster: Cluster) -> None:
    one = await cluster.start(max_size=25)
    await filled(cluster, one)

    for _ in range(SIZE):
        await one.lease()

    async def has_grown() -> bool:
        level = await one.level()
        return (level.total, level.leased) == (25, SIZE)

    await soon(has_grown)
    assert await cluster.is_whole(25)


async def test_missed_leases_are_counted_and_increase_demand(cluster: Cluster) -> None:
    before = metric("scanlogin_pool_empty_total") or 0
    one = await cluster.start(max_size=25)
    await filled(cluster, one)

    cluster.missed["shop"] += 20

    await filled(cluster, one, 25)
    assert metric("scanlogin_pool_empty_total") == before + 20


async def test_two_instances_draw_each_code_once(cluster: Cluster, wechat: Pretending) -> None:
    cluster.make = lambda: wechat_at(wechat.url)
    one, two = (
        await cluster.start("one", min_size=40, max_size=40),
        await cluster.start("two", min_size=40, max_size=40),
    )

    await soon(lambda: is_free(two, 40))
    await soon(lambda: is_free(one, 40))

    # A draw that timed out is repeated. Without a leader there would be far more draws.
    assert 40 <= wechat.wechat.calls[DRAW] < 45
    assert await cluster.is_whole(40)


async def test_stopped_leader_is_replaced_at_once(cluster: Cluster) -> None:
    one = await cluster.start("one")
    await filled(cluster, one)
    await one.end()

    two = await cluster.start("two", min_size=15, max_size=15)

    await filled(cluster, two, 15)
    assert await cluster.is_whole(15)


async def test_instance_without_leader_lease_draws_no_code(cluster: Cluster) -> None:
    cluster.apps.apps = {"shop": SHOP}
    one = await cluster.start()
    await one.store.leader_leases.acquire("pool:shop", "another", seconds=600)

    cluster.apps.apps = {"shop": POOLED}
    await eventually(lambda: metric("scanlogin_pool_codes", state="free") == 0)
    await one.wait_for_round()
    assert await cluster.codes.counts() == []

    await one.store.leader_leases.release("pool:shop", "another")
    await filled(cluster, one)


@only_memory
async def test_leader_without_database_is_replaced(cluster: Cluster, lines: LogLines) -> None:
    records, cluster.records = cluster.records, "sqlite+aiosqlite:////nowhere/records.db"
    await cluster.start("one")
    await eventually(lambda: lines.count("pool maintenance failed"), within=TIMEOUT)

    cluster.records = records
    await filled(cluster, await cluster.start("two"))


async def test_pool_follows_changes_of_code_source(
    cluster: Cluster,
) -> None:
    cluster.apps.apps = {"shop": SHOP}
    one = await cluster.start()
    await one.wait_for_round()
    assert await cluster.ready() == {}

    cluster.apps.apps = {"shop": POOLED}
    await filled(cluster, one)

    cluster.apps.apps = {}
    await eventually(lambda: metric("scanlogin_pool_codes", state="free") is None)
    assert await one.store.leader_leases.acquire("pool:shop", "another", seconds=1)


@only_memory
async def test_failure_of_one_app_does_not_affect_others(cluster: Cluster, lines: LogLines) -> None:
    cluster.apps.apps["odd"] = replace(POOLED, id="odd", provider="unknown")

    one = await cluster.start()

    await filled(cluster, one)
    await eventually(lambda: lines.count("pool refill failed") == 1)
    assert "the provider unknown" in lines.reasons("pool refill failed")[0]


# --- losses of the state


async def test_codes_lost_by_the_state_return_with_cooldown(
    cluster: Cluster, engines: Engines, lines: LogLines
) -> None:
    one = await cluster.start()
    await filled(cluster, one)
    await one.wait_for_round()
    before = await cluster.ready()
    await one.lease()

    if cluster.engine == "memory":
        await one.end()
        cluster.forget()
        one = await cluster.start()
    else:
        engines.empty(cluster.engine)

    async def all_rest() -> bool:
        return await one.level() == PoolLevel(free=0, leased=0, resting=SIZE)

    await soon(all_rest)
    assert await one.lease() is None
    assert lines.count("pool codes missing in state") == 1

    cluster.clock.time += COOLDOWN
    await soon(lambda: is_free(one, SIZE))
    assert await cluster.ready() == before


@pytest.mark.parametrize("engine", ["valkey"], indirect=True)
async def test_state_emptied_during_a_check_starts_cooldown(
    cluster: Cluster, engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await cluster.start()
    await filled(cluster, one)
    await one.wait_for_round()
    level, emptied = one.store.code_leases.level, []

    async def level_and_loss(app: str) -> PoolLevel:
        found = await level(app)
        if not emptied:
            emptied.append(True)
            engines.empty("valkey")
        return found

    monkeypatch.setattr(one.store.code_leases, "level", level_and_loss)
    await eventually(lambda: emptied)

    async def all_rest() -> bool:
        return await level("shop") == PoolLevel(free=0, leased=0, resting=SIZE)

    await soon(all_rest)


@only_memory
async def test_codes_not_offered_yet_are_not_missing(
    cluster: Cluster, lines: LogLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This includes an instance that has just become the leader again."""
    offer = cluster.store.code_leases.offer

    async def late(app: str, codes: Sequence[Any], **named: Any) -> None:
        """The leader lease is lost and acquired again during the offer."""
        if codes:
            await eventually(lambda: lines.count("pool maintenance recovered") == 1)
        await offer(app, codes, **named)

    monkeypatch.setattr(cluster.store.code_leases, "offer", late)
    monkeypatch.setattr(
        cluster.store.leader_leases, "acquire", failing(2, cluster.store.leader_leases.acquire)
    )

    one = await cluster.start()

    await soon(lambda: is_free(one, SIZE))
    assert lines.count("pool maintenance failed") == 1
    assert lines.count("pool codes missing in state") == 0


def failing(nth: int, act: Callable[..., Awaitable[bool]]) -> Callable[..., Awaitable[bool]]:
    """Return `act`, whose nth call raises Unavailable."""
    calls = count(1)

    async def fail(*given: object, **named: object) -> bool:
        if next(calls) == nth:
            raise Unavailable
        return await act(*given, **named)

    return fail


async def test_codes_drawn_by_a_command_are_free_at_once(cluster: Cluster) -> None:
    """As by `scan-login pool fill` without access to the state."""
    one = await cluster.start()
    await filled(cluster, one)
    for number in range(SIZE, SIZE + 5):
        reserved = await cluster.codes.reserve("shop", number, seconds=RESERVATION_TIMEOUT)
        assert reserved is not None
        await cluster.codes.finish(reserved, "x.svg")

    await soon(lambda: is_free(one, SIZE + 5))


@only_memory
async def test_codes_replaced_by_a_command_are_replaced_in_state(cluster: Cluster) -> None:
    """As by `scan-login pool retire` and `fill`, in between two rounds."""
    one = await cluster.start()
    await filled(cluster, one)
    async with one.round_lock:
        old = (await cluster.ready())[0]
        await cluster.codes.retire([old])
        reserved = await cluster.codes.reserve("shop", 0, seconds=RESERVATION_TIMEOUT)
        assert reserved is not None
        await cluster.codes.finish(reserved, "x.svg")

    async def is_replaced() -> bool:
        new = (await cluster.ready()).get(0)
        leased = await one.lease()
        assert leased is not None
        await one.store.code_leases.return_code(
            "shop", leased.code.number, leased.generation, cooldown=0.0
        )
        return leased.code.number == 0 and new is not None and leased.code.scene == new.scene

    await soon(is_replaced)


# --- replaced codes


@pytest.mark.parametrize("up", [0, 1_000])
async def test_picture_of_overused_code_remains_while_on_screens(
    cluster: Cluster, up: float
) -> None:
    """This holds after any uptime of the instance."""
    one = await cluster.start()
    await filled(cluster, one)
    cluster.clock.time += up
    old = (await cluster.ready())[0]
    leased = await one.lease()
    assert leased is not None
    assert leased.code.scene == old.scene

    one.codes_to_retire.add(CodeKey("shop", 0, 0))

    async def is_redrawn() -> bool:
        return (await cluster.ready()).get(0, old).drawing == 1 and one.codes_to_retire == set()

    await soon(is_redrawn)
    assert (await cluster.ready())[0].scene != old.scene
    for _ in range(3):
        cluster.clock.time += CLEANUP_INTERVAL
        await one.wait_for_round()
        assert await cluster.pictures.get(old.picture) is not None

    async def is_removed() -> bool:
        """The picture is removed before its row is updated."""
        cluster.clock.time += CLEANUP_INTERVAL
        return (await cluster.codes.counts())[0].leftover == 0

    await soon(is_removed)
    assert await cluster.pictures.get(old.picture) is None
    assert await cluster.is_whole()


@only_memory
async def test_picture_leased_after_retirement_remains(cluster: Cluster) -> None:
    """No broker had synchronized the state."""
    one = await cluster.start("one")
    await filled(cluster, one)
    await one.end()
    old = (await cluster.ready())[0]
    await cluster.codes.retire([old])
    cluster.clock.time += 1_000
    leased = await one.lease()
    assert leased is not None
    assert leased.code.scene == old.scene

    two = await cluster.start("two")
    await filled(cluster, two)
    cluster.clock.time += CLEANUP_INTERVAL
    await two.wait_for_round()

    assert await cluster.pictures.get(old.picture) is not None


async def test_old_codes_are_replaced_in_small_batches(cluster: Cluster) -> None:
    one = await cluster.start()
    await filled(cluster, one)
    before = await cluster.ready()

    cluster.clock.time += MAX_AGE
    few = []

    async def all_are_new() -> bool:
        cluster.clock.time += CLEANUP_INTERVAL
        few.append((await one.level()).total)
        return all(code.drawing == 1 for code in (await cluster.ready()).values())

    await soon(all_are_new)
    await soon(cluster.is_whole)
    assert min(few) >= SIZE // 2
    assert not {code.scene for code in before.values()} & {
        code.scene for code in (await cluster.ready()).values()
    }


# --- failures


@pytest.fixture
async def wechat() -> AsyncIterator[Pretending]:
    async with pretending() as there:
        yield there


@only_redis
async def test_wechat_outage_is_logged_once_until_recovery(
    cluster: Cluster, wechat: Pretending, lines: LogLines
) -> None:
    cluster.make = lambda: wechat_at(wechat.url)
    wechat.wechat.faults.set(DRAW, "45009")
    one = await cluster.start()
    await eventually(lambda: lines.count("pool refill failed"), within=TIMEOUT)

    wechat.wechat.faults.set(DRAW, "503", 2)  # one every 5 s: the breaker is open
    await filled(cluster, one)

    assert await cluster.is_whole()
    await eventually(lambda: lines.count("pool refill recovered") == 1)
    assert ["45009" in reason for reason in lines.reasons("pool refill failed")] == [True]


@only_memory
async def test_picture_store_outage_is_retried(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, lines: LogLines
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    with running_s3() as server:
        server.make_bucket("pictures")
        server.stop()
        cluster.pictures = ObjectPictureStore(
            "s3://pictures", public_url=PUBLIC, endpoint=server.url
        )
        one = await cluster.start()
        await eventually(lambda: lines.count("pool refill failed"), within=TIMEOUT)
        assert (await one.level()).total == 0

        server.start()
        server.make_bucket("pictures")
        await filled(cluster, one)

        assert await cluster.is_whole()
    assert "picture store s3://pictures:" in lines.reasons("pool refill failed")[0]


@only_memory
async def test_locked_database_file_is_retried(cluster: Cluster, lines: LogLines) -> None:
    with closing(
        sqlite3.connect(cluster.records.partition(":///")[2], isolation_level=None)
    ) as other:
        other.execute("BEGIN IMMEDIATE")
        one = await cluster.start()
        await eventually(lambda: lines.count("pool refill failed"), within=TIMEOUT)
        other.execute("ROLLBACK")

    await filled(cluster, one)
    assert await cluster.is_whole()


@only_redis
async def test_database_outage_is_retried(
    cluster: Cluster, frail_postgres: PostgresServer, lines: LogLines
) -> None:
    one = await cluster.start()
    await filled(cluster, one)

    frail_postgres.stop()
    await eventually(lambda: lines.count("pool maintenance failed"), within=TIMEOUT)
    assert await one.lease() is not None
    frail_postgres.revive()
    await eventually(lambda: lines.count("pool maintenance recovered"), within=TIMEOUT)

    one.codes_to_retire.add(CodeKey("shop", 3, 0))

    async def is_redrawn() -> bool:
        codes = await cluster.ready()
        return 3 in codes and codes[3].drawing == 1

    await soon(is_redrawn)
    assert lines.count("pool maintenance failed") == 1


class Stumbling(PretendProvider):
    """Fails with an unexpected exception."""

    async def draw(self, scene: str) -> CodePicture:
        raise RuntimeError("canary")


@only_memory
async def test_unexpected_provider_failure_is_logged_and_filling_resumes(
    cluster: Cluster, lines: LogLines
) -> None:
    cluster.make = lambda: Stumbling(phone_page_url="http://phone.example/")
    one = await cluster.start()
    await eventually(lambda: lines.count("task failed"), within=TIMEOUT)

    await one.end()
    cluster.make = lambda: cluster.counting
    cluster.clock.time += RESERVATION_TIMEOUT
    await filled(cluster, await cluster.start("two"))


@only_memory
async def test_drawing_resumes_after_the_clock_is_set_back(
    cluster: Cluster, lines: LogLines
) -> None:
    def no_provider() -> Provider:
        raise ProviderUnavailable("down", 1)

    cluster.timer, cluster.make = time.monotonic, no_provider
    one = await cluster.start()
    await eventually(lambda: lines.count("pool refill failed"), within=TIMEOUT)

    cluster.clock.time -= 3_600
    cluster.make = lambda: cluster.counting

    await filled(cluster, one)


# --- whole brokers


async def test_broker_fills_the_pool_of_its_default_app(
    start_broker: StartBroker, records_file: Path
) -> None:
    broker: RunningBroker = await start_broker(code_source="pool", pool_size=3)

    def ready() -> int:
        with closing(sqlite3.connect(records_file)) as database:
            [(count,)] = database.execute("SELECT count(*) FROM codes WHERE drawn_at > 0")
        return int(count)

    await eventually(lambda: ready() == 3, within=TIMEOUT)
    assert broker.settings[AppSettings].code_source == "pool"


@only_redis
async def test_codes_of_killed_broker_are_drawn_by_another(
    cluster: Cluster, wechat: Pretending, tmp_path: Path, engines: Engines
) -> None:
    size = 150
    settings = wechat.settings(
        records_url=cluster.records,
        pictures_url=cluster.pictures.location,
        state_url=cluster.url,
        seal_file=tmp_path / "seal.json",
        key_file=tmp_path / "keys.json",
        code_source="pool",
        pool_size=size,
        pool_per_minute=1500,
        admin_port=0,
        port=0,
    )
    brokers = {
        name: subprocess.Popen(
            [*COMMAND, "serve"],
            cwd=tmp_path,
            env={
                **os.environ,
                **{f"SCAN_LOGIN_{n.upper()}": str(v) for n, v in settings.items()},
                "SCAN_LOGIN_INSTANCE": name,
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for name in ("one", "two")
    }
    try:

        async def some_are_ready() -> bool:
            return await cluster.codes.count("default") > 20

        await eventually(some_are_ready, within=60)
        with engines.nodes("redis")[0].client() as client:
            holder = bytes(client.get("scanlogin:duty:{pool:default}")).decode()
        brokers[holder].kill()
        brokers[holder].wait()
        async with aiohttp.ClientSession(wechat.url) as http:  # until earlier requests have ended
            await http.get("/pretend/calls")
        left, drawn = await cluster.codes.count("default"), wechat.wechat.calls[DRAW]
        assert left < size
        assert drawn <= left + 8

        async def is_continued() -> bool:
            return await cluster.codes.count("default") > left

        async def is_filled() -> bool:
            return await cluster.codes.count("default") == size

        await eventually(is_continued, within=LEASE_TTL + 10)
        async with cluster.database.write_transaction() as connection:  # expire the reservations
            await connection.execute(sa.update(t.codes).values(reserved_until=0))
        await eventually(is_filled, within=TIMEOUT)

        assert wechat.wechat.calls[DRAW] == drawn + size - left
        assert not await verify_codes(codes=cluster.codes, pictures=cluster.pictures, app="default")
        async with cluster.database.read_connection() as connection:
            scenes = list(await connection.scalars(sa.select(t.codes.c.scene)))
        assert len(set(scenes)) == size
    finally:
        for broker in brokers.values():
            broker.kill()
            broker.wait()
