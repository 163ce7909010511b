"""Filling of pools during failures of WeChat, picture store and database."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing

import pytest

from broker.blobs.pictures import ObjectPictureStore
from broker.identity.errors import ProviderUnavailable
from broker.pool.errors import PicturesUnavailable
from broker.pool.filler import RESERVATION_TIMEOUT, FillProgress
from broker.pool.model import CodeReservation
from broker.pool.verifier import verify_codes
from broker.records.errors import RecordsUnavailable
from broker.records.pool_codes import SqlCodeStore
from tests.support.builders import Clock
from tests.support.pool import PATIENT, PUBLIC, CountingProvider, Fill, is_whole, ready_codes
from tests.support.records import connected
from tests.support.servers.postgres import PostgresServer
from tests.support.servers.s3 import S3Server, running_s3
from tests.support.wechat import DRAW, Pretending, pretending, provider_at


@pytest.fixture
async def wechat() -> AsyncIterator[Pretending]:
    async with pretending() as simulator:
        yield simulator


@pytest.mark.parametrize("fault", ["-1", "503", "html", "cut", "40001"])
async def test_temporary_wechat_failure_is_retried(
    make_filler: Fill,
    codes: SqlCodeStore,
    folder: ObjectPictureStore,
    wechat: Pretending,
    fault: str,
) -> None:
    wechat.wechat.faults.set(DRAW, fault, 4)

    async with provider_at(wechat.url) as provider:
        await make_filler(provider=provider).run()

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
    make_filler: Fill,
    codes: SqlCodeStore,
    folder: ObjectPictureStore,
    wechat: Pretending,
    clock: Clock,
    fault: str,
    remedy: str,
) -> None:
    async with provider_at(wechat.url) as provider:
        await make_filler(provider=provider, count=3).run()
        wechat.wechat.faults.set(DRAW, fault)
        before = wechat.wechat.calls[DRAW]
        with pytest.raises(ProviderUnavailable) as failure:
            await make_filler(provider=provider, count=30).run()
        draws = wechat.wechat.calls[DRAW] - before
        wechat.wechat.faults.clear()

    assert fault in failure.value.reason
    assert remedy in failure.value.reason
    assert draws <= 8
    [counts] = await codes.counts()
    assert (counts.ready, counts.reserved <= 8) == (3, True)
    clock.time += RESERVATION_TIMEOUT  # a busy database may not have released all of them
    async with provider_at(wechat.url) as provider:
        assert await make_filler(provider=provider, count=30).run() == 27
    assert await is_whole(codes, folder, 30)


async def test_first_failure_is_reported_if_its_release_is_late(
    make_filler: Fill,
    codes: SqlCodeStore,
    provider: CountingProvider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The circuit breaker refuses the next draw, and its release comes before that of the first."""
    released, release = asyncio.Event(), codes.release_reservation
    scenes: list[str] = []

    async def fail(scene: str) -> None:
        scenes.append(scene)
        raise ProviderUnavailable("48001" if len(scenes) == 1 else "paused", 1, retryable=False)

    async def release_first_last(reservation: CodeReservation) -> None:
        if reservation.scene == scenes[0]:
            await released.wait()
        await release(reservation)
        released.set()

    provider.before_draw = fail
    monkeypatch.setattr(codes, "release_reservation", release_first_last)
    with pytest.raises(ProviderUnavailable) as failure:
        await make_filler(count=2).run()

    assert failure.value.reason == "48001"


async def test_wrong_secret_ends_filling_without_a_draw(
    make_filler: Fill, wechat: Pretending
) -> None:
    async with provider_at(wechat.url, secret="wrong") as provider:
        with pytest.raises(ProviderUnavailable) as failure:
            await make_filler(provider=provider).run()

    assert "the secret does not belong to this appid" in failure.value.reason
    assert wechat.wechat.calls[DRAW] == 0


async def test_repeated_failure_ends_filling_after_all_retries(
    make_filler: Fill, wechat: Pretending
) -> None:
    wechat.wechat.faults.set(DRAW, "503")
    reports: list[FillProgress] = []

    async with provider_at(wechat.url) as provider:
        with pytest.raises(ProviderUnavailable) as failure:
            await make_filler(provider=provider, report=reports.append).run()

    assert failure.value.retryable
    assert any(f"{DRAW} failed with " in progress.waiting_for for progress in reports)


async def test_picture_store_outage_is_retried(
    make_filler: Fill,
    codes: SqlCodeStore,
    provider: CountingProvider,
    monkeypatch: pytest.MonkeyPatch,
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
        await make_filler(
            pictures=pictures, report=come_and_go, retry_delays=PATIENT, count=40
        ).run()

        assert len(went) == 2
        assert "picture store s3://pictures/x: put failed" in went[1].waiting_for
        assert (await codes.missing("shop", 40)) == []
        lost = await verify_codes(codes=codes, pictures=pictures, app="shop")
    # moto loses its pictures at a restart; no other picture is missing.
    assert {one.reason for one in lost} == {"picture not found"}
    assert 5 <= len(lost) <= 5 + 8
    assert set(provider.draws.values()) == {1}


async def test_missing_bucket_ends_filling(
    make_filler: Fill, codes: SqlCodeStore, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    nowhere = ObjectPictureStore("s3://nowhere", public_url=PUBLIC, endpoint=s3.url)

    with pytest.raises(PicturesUnavailable) as failure:
        await make_filler(pictures=nowhere).run()

    assert "bucket not found" in failure.value.reason
    assert await ready_codes(codes) == []


@pytest.mark.parametrize("records_url", ["sqlite"], indirect=True)  # used by other fixtures only
async def test_database_outage_is_retried(
    make_filler: Fill,
    folder: ObjectPictureStore,
    provider: CountingProvider,
    stoppable_postgres: PostgresServer,
    postgres_template: str,
    clock: Clock,
) -> None:
    went: list[FillProgress] = []

    def come_and_go(progress: FillProgress) -> None:
        if progress.waiting_for and len(went) == 1:
            stoppable_postgres.revive()
            went.append(progress)
        elif progress.ready == 5 and not went:
            stoppable_postgres.stop()
            went.append(progress)

    async with connected(stoppable_postgres.new_database(postgres_template)) as database:
        codes = SqlCodeStore(database, clock=clock)
        await make_filler(codes=codes, report=come_and_go, retry_delays=PATIENT).run()

        assert len(went) == 2
        assert set(provider.draws.values()) == {1}
        assert await is_whole(codes, folder, 10)


@pytest.mark.parametrize("records_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("statement_timeout", [1.0])
async def test_locked_database_file_is_retried(
    make_filler: Fill,
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

        await make_filler(report=lock_and_unlock).run()

    assert [progress.waiting_for for progress in locked] == ["", "database is locked"]
    assert set(provider.draws.values()) == {1}
    assert await is_whole(codes, folder, 10)


async def test_failed_offer_ends_filling(make_filler: Fill) -> None:
    async def offer(some: object) -> None:
        raise RecordsUnavailable("canary")

    with pytest.raises(RecordsUnavailable):
        await make_filler(offer=offer).run()
