"""The jobs of tunnels: instances that have ended, lost notices, an unavailable state."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from typing import NamedTuple

import pytest

from broker.errors import Unavailable
from broker.state import StateBackend
from broker.tunnels.jobs import TunnelJobs
from broker.tunnels.losses import LostSockets
from broker.tunnels.model import (
    AWAY_TOO_LONG,
    NATIVE,
    UNAVAILABLE,
    WAFER,
    ClosedBy,
    Tunnel,
    TunnelState,
)
from broker.tunnels.ports import AWAY_TIMEOUT_MAX, Push
from tests.support.builders import Clock
from tests.support.tunnel_instances import FlakyBackend, Instance, running_instances, sessions_of
from tests.support.tunnels import stored_tunnel
from tests.support.waiting import eventually


class EndedInstances:
    """An instance registry. ended_names: the instances that have ended."""

    def __init__(self, *ended_names: str) -> None:
        self.ended_names = {*ended_names}

    def ended(self, instances: Collection[str]) -> Collection[str]:
        return self.ended_names & {*instances}


class Pair(NamedTuple):
    backend: FlakyBackend
    one: Instance
    two: Instance


@pytest.fixture
async def pair(store: StateBackend) -> AsyncIterator[Pair]:
    backend = FlakyBackend()
    async with running_instances(store, backend, "one", "two") as instances:
        yield Pair(backend, *instances)


def jobs_of(store: StateBackend, instance: Instance, *ended: str) -> TunnelJobs:
    return TunnelJobs(
        stores=store.tunnels,
        closer=instance.closer,
        session_service=sessions_of(store),
        leader_leases=store.leader_leases,
        instances=EndedInstances(*ended),
        clock=store.clock,
        away_timeout=120,
        instance="two",
    )


async def record_of(store: StateBackend, tunnel_id: str) -> Tunnel:
    tunnel = await store.tunnels.records.get(tunnel_id)
    assert tunnel is not None
    return tunnel


async def test_tunnels_of_ended_instance_are_away(store: StateBackend, pair: Pair) -> None:
    socket, attached = await pair.one.open()
    more = [(await pair.one.open())[0] for _ in range(250)]
    other, _ = await pair.two.open()

    await jobs_of(store, pair.two, "one").free_lost()

    for one in (socket, *more):
        assert (await record_of(store, one.tunnel_id)).state is TunnelState.AWAY
    assert (await record_of(store, other.tunnel_id)).state is TunnelState.OPEN
    assert await pair.two.resume(attached) is not None


async def test_wafer_tunnel_of_ended_instance_is_closed(store: StateBackend, pair: Pair) -> None:
    tunnel = await stored_tunnel(store, api=WAFER, instance="one")
    jobs = jobs_of(store, pair.two, "one")

    await jobs.free_lost()
    await jobs.run_once()
    await pair.two.closer.close()

    assert await store.tunnels.records.get(tunnel.id) is None
    assert pair.backend.accepted[tunnel.id] == [(1, "close")]


async def test_running_instance_that_seemed_ended_closes_sockets(
    store: StateBackend, pair: Pair
) -> None:
    socket, attached = await pair.one.open()

    await jobs_of(store, pair.two, "one").free_lost()
    socket.send("late")

    await eventually(lambda: socket.closed is not None)
    assert socket.closed == UNAVAILABLE
    assert pair.backend.accepted[socket.tunnel_id] == [(1, "")]
    assert await pair.two.resume(attached) is not None


async def test_away_tunnel_that_resumes_is_not_ended(
    store: StateBackend, pair: Pair, clock: Clock
) -> None:
    socket, attached = await pair.one.open()
    socket.lose()
    await pair.one.losses.flush()
    away = await record_of(store, socket.tunnel_id)
    clock.time += 121

    assert await pair.two.resume(attached) is not None
    await jobs_of(store, pair.two).run_once()
    assert await pair.two.closer.end(away, AWAY_TOO_LONG, ClosedBy.NETWORK) is None

    assert (await record_of(store, socket.tunnel_id)).state is TunnelState.OPEN


async def test_due_tunnel_ends_once(store: StateBackend, pair: Pair, clock: Clock) -> None:
    socket, _ = await pair.one.open()
    socket.lose()
    await pair.one.losses.flush()
    clock.time += 121

    for instance in (pair.one, pair.two):
        await jobs_of(store, instance).run_once()
        await instance.closer.close()

    assert pair.backend.accepted[socket.tunnel_id] == [(1, ""), (2, "close")]


async def test_tunnel_away_for_a_day_resumes_and_ends(
    store: StateBackend, pair: Pair, clock: Clock
) -> None:
    socket, attached = await pair.one.open()
    losses = LostSockets(records=store.tunnels.records, clock=clock, away_timeout=AWAY_TIMEOUT_MAX)
    losses.add(socket.tunnel_id, socket.attachment, ClosedBy.NETWORK)
    await losses.flush()
    push = Push(socket.tunnel_id, b'"kept"', keep=AWAY_TIMEOUT_MAX)
    await store.tunnels.streams.append(attached.tunnel.owner, NATIVE, [push])

    clock.time += AWAY_TIMEOUT_MAX - 1
    await jobs_of(store, pair.two).run_once()
    resumed = await pair.two.resume(attached)

    assert resumed is not None
    await eventually(lambda: [one.data for one in resumed.received] == [b'"kept"'])
    losses.add(socket.tunnel_id, resumed.attachment, ClosedBy.NETWORK)
    await losses.flush()
    clock.time += AWAY_TIMEOUT_MAX
    await jobs_of(store, pair.two).run_once()
    await pair.two.closer.close()
    assert pair.backend.accepted[socket.tunnel_id][-1] == (3, "close")


async def test_message_without_notice_is_in_changed_set(store: StateBackend, pair: Pair) -> None:
    socket, attached = await pair.one.open()
    push = Push(socket.tunnel_id, b'"x"')
    await store.tunnels.streams.append(attached.tunnel.owner, NATIVE, [push])

    await pair.one.hub.read_changed()

    await eventually(lambda: [one.data for one in socket.received] == [b'"x"'])


async def test_loss_is_stored_after_state_recovers(
    store: StateBackend, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    socket, _ = await pair.one.open()
    records, failures = store.tunnels.records, iter([True, True, False])
    get = records.get

    async def get_or_fail(tunnel_id: str) -> Tunnel | None:
        if next(failures, False):
            raise Unavailable
        return await get(tunnel_id)

    monkeypatch.setattr(records, "get", get_or_fail)
    monkeypatch.setattr("broker.tunnels.losses.RETRY_DELAY", 0)
    losses = LostSockets(records=records, clock=store.clock, away_timeout=120)
    losses.add(socket.tunnel_id, socket.attachment, ClosedBy.NETWORK)

    await losses.flush()

    assert (await record_of(store, socket.tunnel_id)).state is TunnelState.AWAY
