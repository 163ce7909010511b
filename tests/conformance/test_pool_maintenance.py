"""The job that keeps pools filled, over every kind of state and records."""

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
from tests.support.pool import PUBLIC, Counting
from tests.support.records import database_of
from tests.support.servers.postgres import PostgresServer
from tests.support.servers.redis import Engines
from tests.support.servers.s3 import running_s3
from tests.support.waiting import eventually, opened
from tests.support.wechat import DRAW, Pretending, pretending
from tests.support.wechat import provider_of as wechat_at

GROUNDS: Mapping[str, str] = {"memory": "sqlite", "redis": "postgresql", "valkey": "sqlite"}
"""What is kept where: the state, and the records."""

LIFE, REST, AGE = 120.0, 600.0, 86_400.0
SIZE = 10
PATIENCE = 40.0
"""Seconds that a machine with much to do gets."""

LIMITS = PoolLimits(
    login_lifetime=LIFE,
    retention=LOGIN_RETENTION,
    cooldown=REST,
    min_size=SIZE,
    max_size=SIZE,
    max_age=AGE,
    per_minute=1e6,
)
POOLED = replace(SHOP, code_source="pool")

pytestmark = pytest.mark.usefixtures("patient_provider")


class MovingClock(Clock):
    """Goes by itself, and may be set on."""

    def __call__(self) -> float:
        return self.time + time.monotonic()


class Listed:
    """Apps that may change."""

    def __init__(self, *apps: App) -> None:
        self.apps = {app.id: app for app in apps}

    async def get(self, app_id: str) -> App | None:
        return self.apps.get(app_id)

    def with_pool(self) -> Collection[App]:
        return [app for app in self.apps.values() if app.code_source == "pool"]

    def origins(self) -> frozenset[str]:
        return frozenset()


class Instance:
    """One broker's keeper, and what it was made with."""

    def __init__(self, keeper: PoolScheduler, store: StateBackend, worn: set[CodeKey]) -> None:
        self.keeper = keeper
        self.store = store
        self.worn = worn
        self.looks = 0
        self._maintain_all = keeper._maintain_all
        self.between_looks = asyncio.Lock()
        keeper._maintain_all = self._look  # type: ignore[method-assign]
        self.task = asyncio.create_task(keeper.run())

    async def _look(self) -> None:
        async with self.between_looks:
            await self._maintain_all()
        self.looks += 1

    async def looks_again(self) -> None:
        """Return once it has begun and ended a look from now on."""
        looks = self.looks
        await eventually(lambda: self.looks >= looks + 2, within=PATIENCE)

    async def level(self, app: str = "shop") -> PoolLevel:
        return await self.store.code_leases.level(app)

    async def lease(self) -> LeasedCode | None:
        clock = self.store.clock
        return await self.store.code_leases.lease("shop", until=clock() + LIFE, cooldown=REST)

    async def end(self) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


class Ground:
    """What instances share: state, records, pictures, a provider, apps, the time.

    store: the state of all instances, where that is memory.
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
        self.apps = Listed(POOLED)
        self.counting = Counting()
        self.make: Callable[[], Provider] = lambda: self.counting
        self.missed: Counter[str] = Counter()
        self.database = Database(records)
        self.codes = SqlCodeStore(self.database, clock=self.clock)
        stack.push_async_callback(self.database.close)
        self.store = open_state("memory://", self.clock)

    def forget(self) -> None:
        """As a process that ends forgets what it had in memory."""
        self.store = open_state("memory://", self.clock)

    async def start(
        self, name: str = "one", *, cleaning_interval: float = CLEANING_INTERVAL, **changes: object
    ) -> Instance:
        store = self.store
        if self.engine != "memory":
            store = open_state(self.url, self.clock)
            await opened(store)
            self.stack.push_async_callback(store.close)
        database = Database(self.records, answer_within=1)
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
        worn: set[CodeKey] = set()
        keeper = PoolScheduler(
            apps=self.apps,
            dependencies=dependencies,
            codes_to_retire=worn,
            missed_leases=self.missed,
            settings_apps=["shop"],
            poll_interval=0.1,
            cleaning_interval=cleaning_interval,
        )
        instance = Instance(keeper, store, worn)
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
        """Whether so many codes are ready, and each can be shown."""
        if list(await self.ready()) != list(range(count)):
            return False
        return not await verify_codes(codes=self.codes, pictures=self.pictures, app="shop")


@pytest.fixture(params=GROUNDS)
def engine(request: pytest.FixtureRequest, engines: Engines) -> str:
    engines.empty(request.param)
    return str(request.param)


@pytest.fixture
def records(engine: str, request: pytest.FixtureRequest) -> str:
    return database_of(GROUNDS[engine], request)


@pytest.fixture
async def ground(
    engine: str, engines: Engines, records: str, tmp_path: Path
) -> AsyncIterator[Ground]:
    folder = ObjectPictureStore((tmp_path / "pictures").as_uri(), public_url=PUBLIC)
    url = engines.url(engine)
    async with AsyncExitStack() as stack:
        yield Ground(engine=engine, url=url, records=records, pictures=folder, stack=stack)


on_one_ground = pytest.mark.parametrize("engine", ["memory"], indirect=True)
over_redis = pytest.mark.parametrize("engine", ["redis"], indirect=True)


class Said:
    """What the log has said by now."""

    def __init__(self, lines: list[structlog.typing.EventDict]) -> None:
        self._lines = lines

    def count(self, event: str) -> int:
        return sum(line["event"] == event for line in self._lines)

    def reasons(self, event: str) -> list[str]:
        return [str(line["reason"]) for line in self._lines if line["event"] == event]


@pytest.fixture
def lines() -> Iterator[Said]:
    with structlog.testing.capture_logs() as captured:
        yield Said(captured)


def metric(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, {"app": "shop", **labels})


async def is_free(instance: Instance, count: int) -> bool:
    return (await instance.level()).free == count


async def soon(condition: Callable[[], Awaitable[object]]) -> None:
    await eventually(condition, within=PATIENCE)


async def filled(ground: Ground, instance: Instance, count: int = SIZE) -> None:
    async def is_filled() -> bool:
        return (await instance.level()).total >= count and len(await ground.ready()) >= count

    await soon(is_filled)


# --- removed apps


async def test_app_under_reused_id_has_own_codes(ground: Ground) -> None:
    one = await ground.start()
    await filled(ground, one)
    former = {code.scene for code in (await ground.ready()).values()}
    current = replace(POOLED, incarnation="1" * 16)

    ground.apps.apps["shop"] = current

    async def is_filled() -> bool:
        return (await one.level(current.key)).free == SIZE

    await soon(is_filled)
    scenes = {code.scene for code in (await ground.ready(current.key)).values()}
    leased = await one.store.code_leases.lease(
        current.key, until=one.store.clock() + LIFE, cooldown=REST
    )
    assert leased is not None
    assert leased.code.scene in scenes
    assert len(scenes | former) == 2 * SIZE


async def test_pools_of_removed_apps_are_deleted(ground: Ground) -> None:
    removed = replace(POOLED, id="removed", incarnation="1" * 16)
    recorded = replace(POOLED, id="recorded", incarnation="2" * 16)
    for app in (removed, recorded):
        await ground.record(app)
    one = await ground.start(cleaning_interval=0.1)
    for app in (POOLED, removed, recorded):
        await soon(lambda app=app: ground.has_ready(app.key, SIZE))
    pictures = [code.picture for code in (await ground.ready(removed.key)).values()]

    await ground.remove(removed)
    await soon(lambda: ground.has_ready(removed.key, 0))
    shown = [await ground.pictures.get(picture) for picture in pictures]
    ground.clock.time += LIFETIME_MAX + LOGIN_RETENTION + CLOCK_SKEW_OVERLAP + 1

    async def is_cleared() -> bool:
        return removed.key not in {one.app for one in await ground.codes.counts()}

    await soon(is_cleared)
    assert None not in shown
    assert [await ground.pictures.get(picture) for picture in pictures] == [None] * SIZE
    assert (await one.level(removed.key)).total == 0
    for app in (POOLED, recorded):
        assert await ground.has_ready(app.key, SIZE)


# --- filling


async def test_new_pool_is_filled_and_free_at_once(ground: Ground, lines: Said) -> None:
    drawn = metric("scanlogin_pool_drawn_total") or 0
    one = await ground.start()

    await soon(lambda: is_free(one, SIZE))

    assert await ground.is_whole()
    assert set(ground.counting.draws.values()) == {1}
    assert metric("scanlogin_pool_drawn_total") == drawn + SIZE
    await eventually(lambda: metric("scanlogin_pool_codes", state="free") == SIZE)
    assert metric("scanlogin_pool_low") == 0
    assert (lines.count("pool empty"), lines.count("pool recovered")) == (1, 1)


async def test_pool_grows_with_leases_up_to_its_maximum(ground: Ground) -> None:
    one = await ground.start(max_size=25)
    await filled(ground, one)

    for _ in range(SIZE):
        await one.lease()

    async def has_grown() -> bool:
        level = await one.level()
        return (level.total, level.leased) == (25, SIZE)

    await soon(has_grown)
    assert await ground.is_whole(25)


async def test_missed_leases_are_counted_and_increase_demand(ground: Ground) -> None:
    before = metric("scanlogin_pool_empty_total") or 0
    one = await ground.start(max_size=25)
    await filled(ground, one)

    ground.missed["shop"] += 20

    await filled(ground, one, 25)
    assert metric("scanlogin_pool_empty_total") == before + 20


async def test_two_instances_draw_each_code_once(ground: Ground, wechat: Pretending) -> None:
    ground.make = lambda: wechat_at(wechat.url)
    one, two = (
        await ground.start("one", min_size=40, max_size=40),
        await ground.start("two", min_size=40, max_size=40),
    )

    await soon(lambda: is_free(two, 40))
    await soon(lambda: is_free(one, 40))

    # A draw that timed out is asked for again; two that drew the same would need far more.
    assert 40 <= wechat.wechat.calls[DRAW] < 45
    assert await ground.is_whole(40)


async def test_stopped_leader_is_replaced_at_once(ground: Ground) -> None:
    one = await ground.start("one")
    await filled(ground, one)
    await one.end()

    two = await ground.start("two", min_size=15, max_size=15)

    await filled(ground, two, 15)
    assert await ground.is_whole(15)


async def test_instance_without_leader_lease_draws_no_code(ground: Ground) -> None:
    ground.apps.apps = {"shop": SHOP}
    one = await ground.start()
    await one.store.leader_leases.acquire("pool:shop", "another", seconds=600)

    ground.apps.apps = {"shop": POOLED}
    await eventually(lambda: metric("scanlogin_pool_codes", state="free") == 0)
    await one.looks_again()
    assert await ground.codes.counts() == []

    await one.store.leader_leases.release("pool:shop", "another")
    await filled(ground, one)


@on_one_ground
async def test_leader_without_database_is_replaced(ground: Ground, lines: Said) -> None:
    records, ground.records = ground.records, "sqlite+aiosqlite:////nowhere/records.db"
    await ground.start("one")
    await eventually(lambda: lines.count("pool maintenance failed"), within=PATIENCE)

    ground.records = records
    await filled(ground, await ground.start("two"))


async def test_pool_follows_changes_of_code_source(
    ground: Ground,
) -> None:
    ground.apps.apps = {"shop": SHOP}
    one = await ground.start()
    await one.looks_again()
    assert await ground.ready() == {}

    ground.apps.apps = {"shop": POOLED}
    await filled(ground, one)

    ground.apps.apps = {}
    await eventually(lambda: metric("scanlogin_pool_codes", state="free") is None)
    assert await one.store.leader_leases.acquire("pool:shop", "another", seconds=1)


@on_one_ground
async def test_failure_of_one_app_does_not_affect_others(ground: Ground, lines: Said) -> None:
    ground.apps.apps["odd"] = replace(POOLED, id="odd", provider="nobody")

    one = await ground.start()

    await filled(ground, one)
    await eventually(lambda: lines.count("pool refill failed") == 1)
    assert "the provider nobody" in lines.reasons("pool refill failed")[0]


# --- what was lost, or was not known


async def test_codes_lost_by_the_state_return_with_cooldown(
    ground: Ground, engines: Engines, lines: Said
) -> None:
    one = await ground.start()
    await filled(ground, one)
    await one.looks_again()
    before = await ground.ready()
    await one.lease()

    if ground.engine == "memory":
        await one.end()
        ground.forget()
        one = await ground.start()
    else:
        engines.empty(ground.engine)

    async def all_rest() -> bool:
        return await one.level() == PoolLevel(free=0, leased=0, resting=SIZE)

    await soon(all_rest)
    assert await one.lease() is None
    assert lines.count("pool codes missing in state") == 1

    ground.clock.time += REST
    await soon(lambda: is_free(one, SIZE))
    assert await ground.ready() == before


@pytest.mark.parametrize("engine", ["valkey"], indirect=True)
async def test_state_emptied_during_a_check_starts_cooldown(
    ground: Ground, engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await ground.start()
    await filled(ground, one)
    await one.looks_again()
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


@on_one_ground
async def test_codes_not_offered_yet_are_not_missing(
    ground: Ground, lines: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even by who has just got the duty again, and takes nothing for granted."""
    offer = ground.store.code_leases.offer

    async def late(app: str, codes: Sequence[Any], **named: Any) -> None:
        """The duty is lost and got again while codes are being opened."""
        if codes:
            await eventually(lambda: lines.count("pool maintenance recovered") == 1)
        await offer(app, codes, **named)

    monkeypatch.setattr(ground.store.code_leases, "offer", late)
    monkeypatch.setattr(
        ground.store.leader_leases, "acquire", failing(2, ground.store.leader_leases.acquire)
    )

    one = await ground.start()

    await soon(lambda: is_free(one, SIZE))
    assert lines.count("pool maintenance failed") == 1
    assert lines.count("pool codes missing in state") == 0


def failing(nth: int, act: Callable[..., Awaitable[bool]]) -> Callable[..., Awaitable[bool]]:
    """`act`, whose nth call finds no state."""
    calls = count(1)

    async def fail(*given: object, **named: object) -> bool:
        if next(calls) == nth:
            raise Unavailable
        return await act(*given, **named)

    return fail


async def test_codes_drawn_by_a_command_are_free_at_once(ground: Ground) -> None:
    """As `scan-login pool fill` draws them, where it does not reach the state."""
    one = await ground.start()
    await filled(ground, one)
    for number in range(SIZE, SIZE + 5):
        reserved = await ground.codes.reserve("shop", number, seconds=RESERVATION_TIMEOUT)
        assert reserved is not None
        await ground.codes.finish(reserved, "x.svg")

    await soon(lambda: is_free(one, SIZE + 5))


@on_one_ground
async def test_codes_replaced_by_a_command_are_replaced_in_state(ground: Ground) -> None:
    """As by `scan-login pool retire` and `fill`, in between two looks."""
    one = await ground.start()
    await filled(ground, one)
    async with one.between_looks:
        old = (await ground.ready())[0]
        await ground.codes.retire([old])
        reserved = await ground.codes.reserve("shop", 0, seconds=RESERVATION_TIMEOUT)
        assert reserved is not None
        await ground.codes.finish(reserved, "x.svg")

    async def is_exchanged() -> bool:
        new = (await ground.ready()).get(0)
        leased = await one.lease()
        assert leased is not None
        await one.store.code_leases.return_code(
            "shop", leased.code.number, leased.generation, cooldown=0.0
        )
        return leased.code.number == 0 and new is not None and leased.code.scene == new.scene

    await soon(is_exchanged)


# --- worn and old


@pytest.mark.parametrize("up", [0, 1_000])
async def test_picture_of_overused_code_remains_while_on_screens(ground: Ground, up: float) -> None:
    """However long the instance has been up."""
    one = await ground.start()
    await filled(ground, one)
    ground.clock.time += up
    old = (await ground.ready())[0]
    leased = await one.lease()
    assert leased is not None
    assert leased.code.scene == old.scene

    one.worn.add(CodeKey("shop", 0, 0))

    async def is_drawn_anew() -> bool:
        return (await ground.ready()).get(0, old).drawing == 1 and one.worn == set()

    await soon(is_drawn_anew)
    assert (await ground.ready())[0].scene != old.scene
    for _ in range(3):
        ground.clock.time += CLEANUP_INTERVAL
        await one.looks_again()
        assert await ground.pictures.get(old.picture) is not None

    async def is_removed() -> bool:
        """The picture is removed before its row is updated."""
        ground.clock.time += CLEANUP_INTERVAL
        return (await ground.codes.counts())[0].leftover == 0

    await soon(is_removed)
    assert await ground.pictures.get(old.picture) is None
    assert await ground.is_whole()


@on_one_ground
async def test_picture_leased_after_retirement_remains(ground: Ground) -> None:
    """For no broker had told the state."""
    one = await ground.start("one")
    await filled(ground, one)
    await one.end()
    old = (await ground.ready())[0]
    await ground.codes.retire([old])
    ground.clock.time += 1_000
    leased = await one.lease()
    assert leased is not None
    assert leased.code.scene == old.scene

    two = await ground.start("two")
    await filled(ground, two)
    ground.clock.time += CLEANUP_INTERVAL
    await two.looks_again()

    assert await ground.pictures.get(old.picture) is not None


async def test_old_codes_are_replaced_in_small_batches(ground: Ground) -> None:
    one = await ground.start()
    await filled(ground, one)
    before = await ground.ready()

    ground.clock.time += AGE
    few = []

    async def all_are_new() -> bool:
        ground.clock.time += CLEANUP_INTERVAL
        few.append((await one.level()).total)
        return all(code.drawing == 1 for code in (await ground.ready()).values())

    await soon(all_are_new)
    await soon(ground.is_whole)
    assert min(few) >= SIZE // 2
    assert not {code.scene for code in before.values()} & {
        code.scene for code in (await ground.ready()).values()
    }


# --- trouble


@pytest.fixture
async def wechat() -> AsyncIterator[Pretending]:
    async with pretending() as there:
        yield there


@over_redis
async def test_wechat_outage_is_logged_once_until_recovery(
    ground: Ground, wechat: Pretending, lines: Said
) -> None:
    ground.make = lambda: wechat_at(wechat.url)
    wechat.wechat.faults.set(DRAW, "45009")
    one = await ground.start()
    await eventually(lambda: lines.count("pool refill failed"), within=PATIENCE)

    wechat.wechat.faults.set(DRAW, "503", 2)  # one every 5 s: the breaker is open
    await filled(ground, one)

    assert await ground.is_whole()
    await eventually(lambda: lines.count("pool refill recovered") == 1)
    assert ["45009" in reason for reason in lines.reasons("pool refill failed")] == [True]


@on_one_ground
async def test_picture_store_outage_is_retried(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, lines: Said
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    with running_s3() as server:
        server.make_bucket("pictures")
        server.stop()
        ground.pictures = ObjectPictureStore(
            "s3://pictures", public_url=PUBLIC, endpoint=server.url
        )
        one = await ground.start()
        await eventually(lambda: lines.count("pool refill failed"), within=PATIENCE)
        assert (await one.level()).total == 0

        server.start()
        server.make_bucket("pictures")
        await filled(ground, one)

        assert await ground.is_whole()
    assert "picture store s3://pictures:" in lines.reasons("pool refill failed")[0]


@on_one_ground
async def test_locked_database_file_is_retried(ground: Ground, lines: Said) -> None:
    with closing(
        sqlite3.connect(ground.records.partition(":///")[2], isolation_level=None)
    ) as other:
        other.execute("BEGIN IMMEDIATE")
        one = await ground.start()
        await eventually(lambda: lines.count("pool refill failed"), within=PATIENCE)
        other.execute("ROLLBACK")

    await filled(ground, one)
    assert await ground.is_whole()


@over_redis
async def test_database_outage_is_retried(
    ground: Ground, frail_postgres: PostgresServer, lines: Said
) -> None:
    one = await ground.start()
    await filled(ground, one)

    frail_postgres.stop()
    await eventually(lambda: lines.count("pool maintenance failed"), within=PATIENCE)
    assert await one.lease() is not None
    frail_postgres.revive()
    await eventually(lambda: lines.count("pool maintenance recovered"), within=PATIENCE)

    one.worn.add(CodeKey("shop", 3, 0))

    async def is_drawn_anew() -> bool:
        codes = await ground.ready()
        return 3 in codes and codes[3].drawing == 1

    await soon(is_drawn_anew)
    assert lines.count("pool maintenance failed") == 1


class Stumbling(PretendProvider):
    """Fails as none should."""

    async def draw(self, scene: str) -> CodePicture:
        raise RuntimeError("canary")


@on_one_ground
async def test_unexpected_provider_failure_is_logged_and_filling_resumes(
    ground: Ground, lines: Said
) -> None:
    ground.make = lambda: Stumbling(phone_page_url="http://phone.example/")
    one = await ground.start()
    await eventually(lambda: lines.count("task failed"), within=PATIENCE)

    await one.end()
    ground.make = lambda: ground.counting
    ground.clock.time += RESERVATION_TIMEOUT
    await filled(ground, await ground.start("two"))


@on_one_ground
async def test_drawing_resumes_after_the_clock_is_set_back(ground: Ground, lines: Said) -> None:
    def no_provider() -> Provider:
        raise ProviderUnavailable("down", 1)

    ground.timer, ground.make = time.monotonic, no_provider
    one = await ground.start()
    await eventually(lambda: lines.count("pool refill failed"), within=PATIENCE)

    ground.clock.time -= 3_600
    ground.make = lambda: ground.counting

    await filled(ground, one)


# --- whole brokers


async def test_broker_fills_the_pool_of_its_default_app(
    start_broker: StartBroker, records_file: Path
) -> None:
    broker: RunningBroker = await start_broker(code_source="pool", pool_size=3)

    def ready() -> int:
        with closing(sqlite3.connect(records_file)) as database:
            [(count,)] = database.execute("SELECT count(*) FROM codes WHERE drawn_at > 0")
        return int(count)

    await eventually(lambda: ready() == 3, within=PATIENCE)
    assert broker.settings.code_source == "pool"


@over_redis
async def test_codes_of_killed_broker_are_drawn_by_another(
    ground: Ground, wechat: Pretending, tmp_path: Path, engines: Engines
) -> None:
    size = 150
    settings = wechat.settings(
        records_url=ground.records,
        pictures_url=ground.pictures.location,
        state_url=ground.url,
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
            return await ground.codes.count("default") > 20

        await eventually(some_are_ready, within=60)
        with engines.nodes("redis")[0].client() as client:
            holder = bytes(client.get("scanlogin:duty:{pool:default}")).decode()
        brokers[holder].kill()
        brokers[holder].wait()
        async with aiohttp.ClientSession(wechat.url) as http:  # what it was asked before is over
            await http.get("/pretend/calls")
        left, asked = await ground.codes.count("default"), wechat.wechat.calls[DRAW]
        assert left < size
        assert asked <= left + 8

        async def is_gone_on_with() -> bool:
            return await ground.codes.count("default") > left

        async def is_filled() -> bool:
            return await ground.codes.count("default") == size

        await eventually(is_gone_on_with, within=LEASE_TTL + 10)
        async with (
            ground.database.write_transaction() as connection
        ):  # as if `RESERVATION_TIMEOUT` were over
            await connection.execute(sa.update(t.codes).values(reserved_until=0))
        await eventually(is_filled, within=PATIENCE)

        assert wechat.wechat.calls[DRAW] == asked + size - left
        assert not await verify_codes(codes=ground.codes, pictures=ground.pictures, app="default")
        async with ground.database.read_connection() as connection:
            scenes = list(await connection.scalars(sa.select(t.codes.c.scene)))
        assert len(set(scenes)) == size
    finally:
        for broker in brokers.values():
            broker.kill()
            broker.wait()
