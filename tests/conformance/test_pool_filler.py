"""Filling of pools by one or several fillers."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import aiohttp
import pytest
import sqlalchemy as sa

from broker.blobs.pictures import ObjectPictureStore
from broker.identity.errors import ProviderUnavailable
from broker.identity.ports import CodePicture
from broker.pool.filler import RESERVATION_TIMEOUT, FillProgress
from broker.pool.model import CodeRecord
from broker.pool.pictures import picture_key
from broker.pool.verifier import verify_codes
from broker.records import tables as t
from broker.records.database import Database
from broker.records.pool_codes import SqlCodeStore
from tests.support.builders import Clock
from tests.support.commands import COMMAND
from tests.support.loop_clock import LoopClock
from tests.support.pool import (
    IN_FLIGHT_MAX,
    PATIENT,
    CountingProvider,
    Fill,
    is_whole,
    ready_codes,
)
from tests.support.records import connected
from tests.support.waiting import eventually
from tests.support.wechat import DRAW, PAGE, Pretending, pretending, provider_at, seen_in


async def test_filler_draws_reports_and_offers_all_codes(
    make_filler: Fill, codes: SqlCodeStore, folder: ObjectPictureStore, provider: CountingProvider
) -> None:
    reports: list[FillProgress] = []
    offered: list[CodeRecord] = []

    async def offer(some: object) -> None:
        offered.extend(some)  # type: ignore[arg-type]

    drawn = await make_filler(report=reports.append, offer=offer).run()

    assert drawn == 10
    assert await is_whole(codes, folder, 10)
    assert [progress.ready for progress in reports] == [*range(11), 10]
    assert {progress.target for progress in reports} == {10}
    ready = await ready_codes(codes)
    assert sorted(offered, key=lambda code: code.number) == ready
    assert provider.draws == {code.scene: 1 for code in ready}


async def test_ready_codes_are_not_drawn_again(
    make_filler: Fill, provider: CountingProvider
) -> None:
    await make_filler(count=4).run()

    assert await make_filler(count=6).run() == 2
    assert await make_filler(count=6).run() == 0
    assert list(provider.draws.values()) == [1] * 6


async def test_row_precedes_drawing_and_picture_precedes_readiness(
    make_filler: Fill,
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
    await make_filler(count=3, offer=offer).run()

    assert Counter(act for act, _, _ in steps) == {"draw": 3, "offer": 3}
    for act, drawn_at, picture in steps:
        assert (drawn_at is None) == (picture is None) == (act == "draw")


async def test_simultaneous_fillers_share_the_numbers(
    make_filler: Fill,
    records_url: str,
    clock: Clock,
    folder: ObjectPictureStore,
    provider: CountingProvider,
) -> None:
    databases = [Database(records_url) for _ in range(3)]
    fillings = [make_filler(codes=SqlCodeStore(one, clock=clock), count=40) for one in databases]

    drawn = await asyncio.gather(*(one.run() for one in fillings))

    assert sum(drawn) == 40
    assert set(provider.draws.values()) == {1}
    assert await is_whole(SqlCodeStore(databases[0], clock=clock), folder, 40)
    for one in databases:
        await one.close()


async def test_drawing_rate_stays_below_its_limit(
    make_filler: Fill, provider: CountingProvider, codes: SqlCodeStore, still_clock: LoopClock
) -> None:
    """At 6 codes per minute, each draw is 10 s after the last one."""
    times: list[float] = []

    async def note(scene: str) -> None:
        times.append(still_clock())

    def has_drawn(count: int) -> bool:
        return len(times) >= count

    provider.before_draw = note
    run = asyncio.create_task(make_filler(count=6, per_minute=6).run())
    for drawn in range(1, 7):
        await still_clock.until(partial(has_drawn, drawn))
        for _ in range(20):  # a draw that was allowed would come meanwhile
            await ready_codes(codes)
        await still_clock.pass_by(10, 1)
    await still_clock.until(run.done)

    assert times == [0, 10, 20, 30, 40, 50]


async def test_stopped_filler_finishes_codes_and_can_be_continued(
    make_filler: Fill, codes: SqlCodeStore, folder: ObjectPictureStore, provider: CountingProvider
) -> None:
    def at_three(progress: FillProgress) -> None:
        if progress.ready == 3:
            stopped.stop()

    stopped = make_filler(count=50, report=at_three)
    drawn = await stopped.run()

    assert 3 <= drawn <= 3 + 8
    assert (await codes.counts())[0].reserved == 0
    assert await make_filler(count=50).run() == 50 - drawn
    assert set(provider.draws.values()) == {1}
    assert await is_whole(codes, folder, 50)


async def test_filler_waits_for_abandoned_reservations(
    make_filler: Fill,
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

    await make_filler(report=when_it_has_looked_in_vain).run()

    assert await is_whole(codes, folder, 10)
    assert (await ready_codes(codes))[2].scene == left.scene


async def test_picture_stored_before_a_crash_is_used(
    make_filler: Fill, codes: SqlCodeStore, folder: ObjectPictureStore, clock: Clock
) -> None:
    left = await codes.reserve("shop", 0, seconds=RESERVATION_TIMEOUT)
    assert left is not None
    key = picture_key(left.scene, "image/svg+xml")
    await folder.put(key, (await CountingProvider().draw(left.scene)).content)
    clock.time += RESERVATION_TIMEOUT

    await make_filler().run()

    assert (await ready_codes(codes))[0].picture == key
    assert await is_whole(codes, folder, 10)


async def test_invalid_picture_is_not_stored(
    make_filler: Fill, codes: SqlCodeStore, folder: ObjectPictureStore
) -> None:
    class InvalidPictureProvider(CountingProvider):
        async def draw(self, scene: str) -> CodePicture:
            return (await super().draw(scene))._replace(content=b"<svg")

    with pytest.raises(ProviderUnavailable) as failure:
        await make_filler(provider=InvalidPictureProvider()).run()

    reason = "the provider returned an invalid picture: not a complete image/svg+xml"
    assert failure.value.reason == reason
    assert await ready_codes(codes) == []


@pytest.fixture
async def wechat() -> AsyncIterator[Pretending]:
    async with pretending() as simulator:
        yield simulator


async def test_wechat_codes_contain_the_recorded_scenes(
    make_filler: Fill, codes: SqlCodeStore, folder: ObjectPictureStore, wechat: Pretending
) -> None:
    async with provider_at(wechat.url) as provider:
        await make_filler(provider=provider).run()

    assert wechat.wechat.calls[DRAW] == 10
    for code in await ready_codes(codes):
        picture = await folder.get(code.picture)
        assert picture is not None
        assert seen_in(picture) == {"page": PAGE, "scene": code.scene}


async def test_killed_filler_is_continued_by_another(
    make_filler: Fill,
    records_url: str,
    folder: ObjectPictureStore,
    tmp_path: Path,
    wechat: Pretending,
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
        async with aiohttp.ClientSession(wechat.url) as http:  # until earlier requests have ended
            await http.get("/pretend/calls")
        draws = wechat.wechat.calls[DRAW]

        async with provider_at(wechat.url) as provider:
            drawn = await make_filler(
                provider=provider, codes=codes, app="default", count=120, retry_delays=PATIENT
            ).run()

        after = [code async for some in codes.ready("default") for code in some]
        assert drawn == wechat.wechat.calls[DRAW] - draws == len(missing)
        assert draws <= len(before) + IN_FLIGHT_MAX
        assert [code.number for code in after] == list(range(120))
        assert set(before) <= set(after)
        assert await verify_codes(codes=codes, pictures=folder, app="default") == []
