"""Filling a pool, verifying it, and retiring codes."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from broker.blobs.pictures import ObjectPictureStore
from broker.identity.errors import ProviderUnavailable
from broker.identity.ports import CodePicture
from broker.pool.errors import PicturesUnavailable
from broker.pool.filler import RESERVATION_TIMEOUT, FillProgress, PoolFiller
from broker.pool.model import CodeRecord
from broker.pool.pictures import picture_key
from broker.pool.retirement import delete_retired_pictures, retire_codes
from broker.pool.verifier import CodeDefect, verify_codes
from broker.records import tables as t
from broker.records.database import Database
from broker.records.errors import RecordsUnavailable
from broker.records.pool_codes import SqlCodeStore
from tests.support.builders import Clock
from tests.support.commands import COMMAND
from tests.support.loop_clock import LoopClock
from tests.support.pool import FAST, PUBLIC, CountingProvider
from tests.support.records import connected
from tests.support.servers.postgres import PostgresServer
from tests.support.servers.s3 import S3Server, running_s3
from tests.support.waiting import eventually
from tests.support.wechat import DRAW, PAGE, Pretending, pretending, provider_at, seen_in

PATIENT = (0.1,) * 300
"""Delays that are long enough for a server to start on a busy machine."""


@pytest.fixture
async def database(records_url: str) -> AsyncIterator[Database]:
    database = Database(records_url, statement_timeout=1)
    yield database
    await database.close()


@pytest.fixture
def codes(database: Database, clock: Clock) -> SqlCodeStore:
    return SqlCodeStore(database, clock=clock)


@pytest.fixture
def folder(tmp_path: Path) -> ObjectPictureStore:
    return ObjectPictureStore((tmp_path / "pictures").as_uri(), public_url=PUBLIC)


@pytest.fixture
def provider() -> CountingProvider:
    return CountingProvider()


Fill = Callable[..., PoolFiller]


@pytest.fixture
def filling(codes: SqlCodeStore, folder: ObjectPictureStore, provider: CountingProvider) -> Fill:
    """Makes a filler of ten codes; keywords replace its arguments."""

    def make(**parts: object) -> PoolFiller:
        fields = {
            "provider": provider,
            "codes": codes,
            "pictures": folder,
            "app": "shop",
            "count": 10,
            "per_minute": FAST,
            "retry_delays": (0.0,) * 3,
        }
        return PoolFiller(**{**fields, **parts})  # type: ignore[arg-type]

    return make


async def all_ready(codes: SqlCodeStore) -> list[CodeRecord]:
    return [code async for some in codes.ready("shop") for code in some]


async def is_whole(codes: SqlCodeStore, pictures: ObjectPictureStore, count: int) -> bool:
    """Return whether all numbers below `count` have a valid code."""
    numbers = [code.number for code in await all_ready(codes)]
    flaws = await verify_codes(codes=codes, pictures=pictures, app="shop")
    return numbers == list(range(count)) and flaws == []


# --- filling


async def test_filler_draws_reports_and_offers_all_codes(
    filling: Fill, codes: SqlCodeStore, folder: ObjectPictureStore, provider: CountingProvider
) -> None:
    told: list[FillProgress] = []
    offered: list[CodeRecord] = []

    async def offer(some: object) -> None:
        offered.extend(some)  # type: ignore[arg-type]

    drawn = await filling(report=told.append, offer=offer).run()

    assert drawn == 10
    assert await is_whole(codes, folder, 10)
    assert [progress.ready for progress in told] == [*range(11), 10]
    assert {progress.target for progress in told} == {10}
    ready = await all_ready(codes)
    assert sorted(offered, key=lambda code: code.number) == ready
    assert provider.draws == {code.scene: 1 for code in ready}


async def test_ready_codes_are_not_drawn_again(filling: Fill, provider: CountingProvider) -> None:
    await filling(count=4).run()

    assert await filling(count=6).run() == 2
    assert await filling(count=6).run() == 0
    assert list(provider.draws.values()) == [1] * 6


async def test_row_precedes_drawing_and_picture_precedes_readiness(
    filling: Fill,
    codes: SqlCodeStore,
    folder: ObjectPictureStore,
    provider: CountingProvider,
    database: Database,
) -> None:
    steps: list[tuple[str, float | None, bytes | None]] = []

    async def look(scene: str) -> None:
        async with database.read_connection() as connection:
            row = (await connection.execute(sa.select(t.codes).filter_by(scene=scene))).one()
        steps.append(("draw", row.drawn_at, await folder.get(picture_key(scene, "image/svg+xml"))))

    async def offer(some: list[CodeRecord]) -> None:
        for code in some:
            steps.append(("offer", code.drawn_at, await folder.get(code.picture)))

    provider.before_draw = look
    await filling(count=3, offer=offer).run()

    assert Counter(act for act, _, _ in steps) == {"draw": 3, "offer": 3}
    for act, drawn_at, picture in steps:
        assert (drawn_at is None) == (picture is None) == (act == "draw")


async def test_simultaneous_fillers_share_the_numbers(
    filling: Fill,
    records_url: str,
    clock: Clock,
    folder: ObjectPictureStore,
    provider: CountingProvider,
) -> None:
    databases = [Database(records_url) for _ in range(3)]
    fillings = [filling(codes=SqlCodeStore(one, clock=clock), count=40) for one in databases]

    drawn = await asyncio.gather(*(one.run() for one in fillings))

    assert sum(drawn) == 40
    assert set(provider.draws.values()) == {1}
    assert await is_whole(SqlCodeStore(databases[0], clock=clock), folder, 40)
    for one in databases:
        await one.close()


async def test_drawing_rate_stays_below_its_limit(
    filling: Fill, provider: CountingProvider, codes: SqlCodeStore, still_clock: LoopClock
) -> None:
    """At 6 codes per minute, each draw is 10 s after the last one."""
    times: list[float] = []

    async def note(scene: str) -> None:
        times.append(still_clock())

    provider.before_draw = note
    run = asyncio.create_task(filling(count=6, per_minute=6).run())
    for drawn in range(1, 7):
        await still_clock.until(lambda drawn=drawn: len(times) >= drawn)
        for _ in range(20):  # a draw that was allowed would come meanwhile
            await all_ready(codes)
        await still_clock.pass_by(10, 1)
    await still_clock.until(run.done)

    assert times == [0, 10, 20, 30, 40, 50]


async def test_stopped_filler_finishes_codes_and_can_be_continued(
    filling: Fill, codes: SqlCodeStore, folder: ObjectPictureStore, provider: CountingProvider
) -> None:
    def at_three(progress: FillProgress) -> None:
        if progress.ready == 3:
            stopped.stop()

    stopped = filling(count=50, report=at_three)
    drawn = await stopped.run()

    assert 3 <= drawn <= 3 + 8
    assert (await codes.counts())[0].reserved == 0
    assert await filling(count=50).run() == 50 - drawn
    assert set(provider.draws.values()) == {1}
    assert await is_whole(codes, folder, 50)


async def test_filler_waits_for_abandoned_reservations(
    filling: Fill,
    codes: SqlCodeStore,
    folder: ObjectPictureStore,
    clock: Clock,
    provider: CountingProvider,
) -> None:
    """A killed filler leaves such reservations."""
    left = await codes.reserve("shop", 2, seconds=RESERVATION_TIMEOUT)
    assert left is not None

    looks = iter(range(3))

    def when_it_has_looked_in_vain(progress: FillProgress) -> None:
        if progress.ready == 9 and next(looks) == 2:
            clock.time += RESERVATION_TIMEOUT

    await filling(report=when_it_has_looked_in_vain).run()

    assert await is_whole(codes, folder, 10)
    assert (await all_ready(codes))[2].scene == left.scene


async def test_picture_stored_before_a_crash_is_used(
    filling: Fill, codes: SqlCodeStore, folder: ObjectPictureStore, clock: Clock
) -> None:
    left = await codes.reserve("shop", 0, seconds=RESERVATION_TIMEOUT)
    assert left is not None
    key = picture_key(left.scene, "image/svg+xml")
    await folder.put(key, (await CountingProvider().draw(left.scene)).content)
    clock.time += RESERVATION_TIMEOUT

    await filling().run()

    assert (await all_ready(codes))[0].picture == key
    assert await is_whole(codes, folder, 10)


async def test_invalid_picture_is_not_stored(
    filling: Fill, codes: SqlCodeStore, folder: ObjectPictureStore
) -> None:
    class Cutting(CountingProvider):
        async def draw(self, scene: str) -> CodePicture:
            return (await super().draw(scene))._replace(content=b"<svg")

    with pytest.raises(ProviderUnavailable) as failure:
        await filling(provider=Cutting()).run()

    reason = "the provider returned an invalid picture: not a complete image/svg+xml"
    assert failure.value.reason == reason
    assert await all_ready(codes) == []


# --- failures of WeChat


@pytest.fixture
async def wechat() -> AsyncIterator[Pretending]:
    async with pretending() as there:
        yield there


async def test_wechat_codes_contain_the_recorded_scenes(
    filling: Fill, codes: SqlCodeStore, folder: ObjectPictureStore, wechat: Pretending
) -> None:
    async with provider_at(wechat.url) as provider:
        await filling(provider=provider).run()

    assert wechat.wechat.calls[DRAW] == 10
    for code in await all_ready(codes):
        picture = await folder.get(code.picture)
        assert picture is not None
        assert seen_in(picture) == {"page": PAGE, "scene": code.scene}


@pytest.mark.parametrize("fault", ["-1", "503", "html", "cut", "40001"])
async def test_temporary_wechat_failure_is_retried(
    filling: Fill, codes: SqlCodeStore, folder: ObjectPictureStore, wechat: Pretending, fault: str
) -> None:
    wechat.wechat.faults.set(DRAW, fault, 4)

    async with provider_at(wechat.url) as provider:
        await filling(provider=provider).run()

    assert await is_whole(codes, folder, 10)


@pytest.mark.parametrize(
    ("fault", "remedy"),
    [
        ("45009", "WeChat's limit of 5 000 codes a minute"),
        ("41030", "the released mini program has no such page"),
        ("48001", "this type of account has no permission"),
    ],
)
async def test_permanent_wechat_failure_ends_filling_with_its_remedy(
    filling: Fill,
    codes: SqlCodeStore,
    folder: ObjectPictureStore,
    wechat: Pretending,
    fault: str,
    remedy: str,
) -> None:
    async with provider_at(wechat.url) as provider:
        await filling(provider=provider, count=3).run()
        wechat.wechat.faults.set(DRAW, fault)
        before = wechat.wechat.calls[DRAW]
        with pytest.raises(ProviderUnavailable) as failure:
            await filling(provider=provider, count=30).run()
        draws = wechat.wechat.calls[DRAW] - before
        wechat.wechat.faults.clear()

    assert fault in failure.value.reason
    assert remedy in failure.value.reason
    assert draws <= 8
    [counts] = await codes.counts()
    assert (counts.ready, counts.reserved <= 8) == (3, True)
    async with provider_at(wechat.url) as provider:
        assert await filling(provider=provider, count=30).run() == 27
    assert await is_whole(codes, folder, 30)


async def test_wrong_secret_ends_filling_without_a_draw(filling: Fill, wechat: Pretending) -> None:
    async with provider_at(wechat.url, secret="wrong") as provider:
        with pytest.raises(ProviderUnavailable) as failure:
            await filling(provider=provider).run()

    assert "the secret does not belong to this appid" in failure.value.reason
    assert wechat.wechat.calls[DRAW] == 0


async def test_repeated_failure_ends_filling_after_all_retries(
    filling: Fill, wechat: Pretending
) -> None:
    wechat.wechat.faults.set(DRAW, "503")
    told: list[FillProgress] = []

    async with provider_at(wechat.url) as provider:
        with pytest.raises(ProviderUnavailable) as failure:
            await filling(provider=provider, report=told.append).run()

    assert failure.value.retryable
    assert any(f"{DRAW} failed with " in progress.waiting_for for progress in told)


# --- failures of stores


async def test_picture_store_outage_is_retried(
    filling: Fill, codes: SqlCodeStore, provider: CountingProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    with running_s3() as server:
        server.make_bucket("pictures")
        pictures = ObjectPictureStore("s3://pictures/x", public_url=PUBLIC, endpoint=server.url)
        went: list[FillProgress] = []

        def come_and_go(progress: FillProgress) -> None:
            if progress.waiting_for and len(went) == 1:
                server.start()
                server.make_bucket("pictures")
                went.append(progress)
            elif progress.ready == 5 and not went:
                server.stop()
                went.append(progress)

        # So many that some are still to be stored, however late the fifth is reported.
        await filling(pictures=pictures, report=come_and_go, retry_delays=PATIENT, count=40).run()

        assert len(went) == 2
        assert "picture store s3://pictures/x: put failed" in went[1].waiting_for
        assert (await codes.missing("shop", 40)) == []
        lost = await verify_codes(codes=codes, pictures=pictures, app="shop")
    # moto loses its pictures at a restart; no other picture is missing.
    assert {one.reason for one in lost} == {"picture not found"}
    assert 5 <= len(lost) <= 5 + 8
    assert set(provider.draws.values()) == {1}


async def test_missing_bucket_ends_filling(
    filling: Fill, codes: SqlCodeStore, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    nowhere = ObjectPictureStore("s3://nowhere", public_url=PUBLIC, endpoint=s3.url)

    with pytest.raises(PicturesUnavailable) as failure:
        await filling(pictures=nowhere).run()

    assert "bucket not found" in failure.value.reason
    assert await all_ready(codes) == []


@pytest.mark.parametrize("records_url", ["sqlite"], indirect=True)  # used by other fixtures only
async def test_database_outage_is_retried(
    filling: Fill,
    folder: ObjectPictureStore,
    provider: CountingProvider,
    frail_postgres: PostgresServer,
    postgres_template: str,
    clock: Clock,
) -> None:
    went: list[FillProgress] = []

    def come_and_go(progress: FillProgress) -> None:
        if progress.waiting_for and len(went) == 1:
            frail_postgres.revive()
            went.append(progress)
        elif progress.ready == 5 and not went:
            frail_postgres.stop()
            went.append(progress)

    async with connected(frail_postgres.new_database(postgres_template)) as database:
        codes = SqlCodeStore(database, clock=clock)
        await filling(codes=codes, report=come_and_go, retry_delays=PATIENT).run()

        assert len(went) == 2
        assert set(provider.draws.values()) == {1}
        assert await is_whole(codes, folder, 10)


@pytest.mark.parametrize("records_url", ["sqlite"], indirect=True)
async def test_locked_database_file_is_retried(
    filling: Fill,
    codes: SqlCodeStore,
    folder: ObjectPictureStore,
    records_url: str,
    provider: CountingProvider,
) -> None:
    path, loop = records_url.partition(":///")[2], asyncio.get_running_loop()
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        locked: list[FillProgress] = []

        def lock_and_unlock(progress: FillProgress) -> None:
            if progress.waiting_for and len(locked) == 1:
                other.execute("ROLLBACK")
                locked.append(progress)
            elif progress.ready == 2 and not locked:
                # In a thread: a write in progress needs the event loop to end.
                loop.run_in_executor(None, other.execute, "BEGIN IMMEDIATE")
                locked.append(progress)

        await filling(report=lock_and_unlock).run()

    assert [progress.waiting_for for progress in locked] == ["", "database is locked"]
    assert set(provider.draws.values()) == {1}
    assert await is_whole(codes, folder, 10)


async def test_failed_offer_ends_filling(filling: Fill) -> None:
    async def offer(some: object) -> None:
        raise RecordsUnavailable("canary")

    with pytest.raises(RecordsUnavailable):
        await filling(offer=offer).run()


async def test_killed_filler_is_continued_by_another(
    filling: Fill, records_url: str, folder: ObjectPictureStore, tmp_path: Path, wechat: Pretending
) -> None:
    settings = wechat.settings(
        records_url=records_url, pictures_url=folder.location, seal_file=tmp_path / "seal.json"
    )
    killed = subprocess.Popen(
        [*COMMAND, "pool", "fill", "--count", "120", "--rate", "4500"],
        cwd=tmp_path,
        env={**os.environ, **{f"SCAN_LOGIN_{n.upper()}": str(v) for n, v in settings.items()}},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    async with connected(records_url) as database:
        codes = SqlCodeStore(database, clock=Clock(2_000_000_000.0))

        async def some_are_ready() -> bool:
            return len(await codes.missing("default", 120)) < 90

        try:
            await eventually(some_are_ready, within=60)
        finally:
            killed.kill()
            killed.wait()

        missing = await codes.missing("default", 120)
        assert 0 < len(missing) < 90
        assert await verify_codes(codes=codes, pictures=folder, app="default") == []
        before = [code async for some in codes.ready("default") for code in some]
        draws = wechat.wechat.calls[DRAW]

        async with provider_at(wechat.url) as provider:
            drawn = await filling(
                provider=provider, codes=codes, app="default", count=120, retry_delays=PATIENT
            ).run()

        after = [code async for some in codes.ready("default") for code in some]
        assert drawn == wechat.wechat.calls[DRAW] - draws == len(missing)
        assert draws <= len(before) + 8
        assert [code.number for code in after] == list(range(120))
        assert set(before) <= set(after)
        assert await verify_codes(codes=codes, pictures=folder, app="default") == []


# --- verification and retirement


async def test_defects_of_pictures_are_found(
    filling: Fill, codes: SqlCodeStore, folder: ObjectPictureStore, tmp_path: Path
) -> None:
    await filling().run()
    ready = await all_ready(codes)
    await folder.remove(ready[1].picture)
    (tmp_path / "pictures" / ready[3].picture).write_bytes(b"")
    (tmp_path / "pictures" / ready[5].picture).write_bytes(b"<html>captive</html>")
    exchanged = tmp_path / "pictures" / ready[7].picture
    exchanged.write_bytes((tmp_path / "pictures" / ready[8].picture).read_bytes())

    unread = await verify_codes(codes=codes, pictures=folder, app="shop")
    read = await verify_codes(
        codes=codes, pictures=folder, app="shop", draw=CountingProvider().draw
    )

    assert unread == [
        CodeDefect(1, "picture not found"),
        CodeDefect(3, "image is empty"),
        CodeDefect(5, "not a complete image/svg+xml"),
    ]
    assert read == [
        *unread,
        CodeDefect(7, "picture differs from a new drawing of its scene"),
    ]


async def test_picture_store_outage_is_not_a_defect(
    filling: Fill, codes: SqlCodeStore, tmp_path: Path
) -> None:
    await filling().run()
    (tmp_path / "file").touch()
    down = ObjectPictureStore((tmp_path / "file" / "x").as_uri(), public_url=PUBLIC)

    with pytest.raises(PicturesUnavailable):
        await verify_codes(codes=codes, pictures=down, app="shop")


async def test_retired_code_is_replaced_and_its_picture_deleted(
    filling: Fill, codes: SqlCodeStore, folder: ObjectPictureStore
) -> None:
    await filling().run()
    before = await all_ready(codes)
    closed: list[tuple[str, Mapping[int, int]]] = []

    async def withdraw(app: str, drawings: Mapping[int, int]) -> None:
        closed.append((app, drawings))

    await retire_codes("shop", before[2:4], codes=codes, withdraw=withdraw)
    assert await folder.get(before[2].picture) is not None
    await delete_retired_pictures("shop", codes=codes, pictures=folder)

    assert closed == [("shop", {2: 0, 3: 0})]
    assert [await folder.get(code.picture) is None for code in before[1:5]] == [
        False,
        True,
        True,
        False,
    ]
    assert await filling().run() == 2
    after = await all_ready(codes)
    assert [code.drawing for code in after] == [0, 0, 1, 1, 0, 0, 0, 0, 0, 0]
    assert not {code.scene for code in before[2:4]} & {code.scene for code in after}
    assert await is_whole(codes, folder, 10)


async def test_failed_picture_deletion_is_repeated_by_next_call(
    filling: Fill, codes: SqlCodeStore, folder: ObjectPictureStore, tmp_path: Path
) -> None:
    await filling().run()
    chosen = (await all_ready(codes))[:3]
    (tmp_path / "file").touch()
    down = ObjectPictureStore((tmp_path / "file" / "x").as_uri(), public_url=PUBLIC)
    await retire_codes("shop", chosen, codes=codes)
    with pytest.raises(PicturesUnavailable):
        await delete_retired_pictures("shop", codes=codes, pictures=down)
    assert (await codes.counts())[0].leftover == 3

    await delete_retired_pictures("shop", codes=codes, pictures=folder)

    assert (await codes.counts())[0].leftover == 0
    assert [await folder.get(code.picture) for code in chosen] == [None] * 3
