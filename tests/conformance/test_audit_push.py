"""The push of the audit log: signature, order, repeats, crashes, targets."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from aiohttp import web

from broker.audit.push import (
    INTERVAL,
    JOB,
    LAST_DELAY,
    RETRY_DELAYS,
    AuditPusher,
    look_delay,
    retry_delay,
)
from broker.errors import Unavailable
from broker.infrastructure.outbound.webhook import SiteClient
from broker.login.model import State
from broker.records.audit_export import SqlAuditExport
from broker.records.audit_log import SqlAuditLog
from broker.records.database import Database
from broker.records.errors import RecordsUnavailable
from broker.state.memory.leader_leases import MemoryLeaderLeases
from tests.support.builders import Clock, a_login
from tests.support.webhook import HOST, SECRET, Names, Served, serving_site


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving_site(tmp_path) as server:
        server.site.answer = accept
        yield server


async def accept(request: web.Request) -> web.StreamResponse:
    return web.Response(status=204)


async def fail(request: web.Request) -> web.StreamResponse:
    return web.Response(status=500)


@pytest.fixture
async def export(database: Database, clock: Clock) -> SqlAuditExport:
    """An export with 250 numbered entries."""
    trail = SqlAuditLog(database, lifetime=3600, clock=clock)
    for number in range(250):
        login = a_login(clock, id=f"login-{number:03}", state=State.DENIED)
        trail.record(login, now=clock() + number)
    await trail.store_queued()
    export = SqlAuditExport(database, chains=False)
    await export.number(500)
    return export


OpenPusher = Callable[..., Awaitable[AuditPusher]]


@pytest.fixture
async def open_pusher(
    server: Served, export: SqlAuditExport, clock: Clock
) -> AsyncIterator[OpenPusher]:
    async with AsyncExitStack() as stack:

        async def open_(
            *,
            is_private_allowed: bool = True,
            instance: str = "one",
            leader_leases: MemoryLeaderLeases | None = None,
        ) -> AuditPusher:
            client = SiteClient(
                allow_private_address=is_private_allowed,
                tls=server.trust,
                resolver=Names(site="127.0.0.1"),
            )
            await client.open()
            stack.push_async_callback(client.close)
            return AuditPusher(
                export=export,
                client=client,
                url=f"https://{HOST}:{server.port}/hook",
                signing_secrets=[SECRET],
                leader_leases=leader_leases or MemoryLeaderLeases(clock),
                clock=time.time,
                instance=instance,
            )

        yield open_


def received(server: Served) -> list[int]:
    """Return the numbers of all received entries, with repeats."""
    return [
        entry["seq"] for _, fields in server.site.questions for entry in fields["data"]["entries"]
    ]


async def test_entries_are_pushed_in_order_and_signed(
    server: Served, open_pusher: OpenPusher, export: SqlAuditExport
) -> None:
    pusher = await open_pusher()

    await pusher.run_once()

    assert received(server) == list(range(1, 251))
    messages = [fields for _, fields in server.site.questions]
    assert [len(fields["data"]["entries"]) for fields in messages] == [100, 100, 50]
    assert {fields["type"] for fields in messages} == {"audit.entry"}
    assert server.site.questions[0][0]["webhook-id"] == "audit_1_100"
    assert await export.pushed() == 250


async def test_refused_entries_are_pushed_again(
    server: Served, open_pusher: OpenPusher, export: SqlAuditExport
) -> None:
    pusher = await open_pusher()
    server.site.answer = fail
    await pusher.run_once()
    assert await export.pushed() == 0

    server.site.answer = accept
    await pusher.run_once()

    assert received(server) == [*range(1, 101), *range(1, 251)]
    ids = [headers["webhook-id"] for headers, _ in server.site.questions]
    assert ids[0] == ids[1]


CRASHES = ["page", "pushed", "mark_pushed"]
"""Steps of a push in the database. The instance ends at one of them."""


@pytest.mark.parametrize("step", CRASHES)
async def test_next_instance_continues_after_a_crash(
    server: Served,
    open_pusher: OpenPusher,
    export: SqlAuditExport,
    step: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pusher, other = await open_pusher(), await open_pusher(instance="two")
    work, calls = getattr(export, step), 0

    async def crash(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise RecordsUnavailable("the instance has crashed")
        return await work(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(export, step, crash)
        with pytest.raises(Unavailable):
            await pusher.run_once()
    await other.run_once()

    assert sorted(set(received(server))) == list(range(1, 251))
    assert await export.pushed() == 250


async def test_private_address_is_refused(
    server: Served, open_pusher: OpenPusher, export: SqlAuditExport
) -> None:
    pusher = await open_pusher(is_private_allowed=False)

    await pusher.run_once()

    assert received(server) == []
    assert await export.pushed() == 0


async def test_push_ends_when_another_instance_leads(
    server: Served, open_pusher: OpenPusher, clock: Clock
) -> None:
    leases = MemoryLeaderLeases(clock)
    pusher = await open_pusher(leader_leases=leases)
    await leases.acquire(JOB, "two", seconds=30)

    await pusher.run_once()

    assert received(server) == list(range(1, 101))


def test_pusher_looks_at_its_interval_or_retry() -> None:
    delays = [look_delay(retry_in) for retry_in in (-60.0, 0.0, 0.5, 3600.0)]

    assert delays == [INTERVAL, INTERVAL, 0.5, INTERVAL]


def test_retries_have_longer_and_longer_delays() -> None:
    delays = [retry_delay(failures) for failures in range(1, 8)]

    assert delays == [*RETRY_DELAYS, LAST_DELAY, LAST_DELAY, LAST_DELAY]
