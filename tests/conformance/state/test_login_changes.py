"""Tests of the changes that an instance takes: none is missing, whatever was lost."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from broker.infrastructure.coordination import Notice
from broker.infrastructure.sharding import SHARDS, shard_of
from broker.login.model import Login, State
from broker.login.ports import ChangedLogins
from broker.state import StateBackend, open_state
from broker.state.redis.login_changes import CHANGES_TTL
from tests.support.builders import ALICE, LOGIN_ID, STATES, Clock, a_login
from tests.support.environment import free_port
from tests.support.servers.redis import Engines, PassTime

SHARD = LOGIN_ID[0]
OTHER_SHARD = next(shard for shard in SHARDS if shard != SHARD)


async def change(store: StateBackend, login: Login, *, notify: bool = True) -> Login:
    """Store a new version of the login. No instance receives the notice."""
    after = replace(login, state=State.SCANNED, phone=ALICE, version=login.version + 1)
    notice = Notice("login-scanned", login.id) if notify else None
    assert await store.logins.swap(login, after, notice)
    return after


async def stored(store: StateBackend, clock: Clock, **fields: str) -> Login:
    login = a_login(clock, **{"instance": "one", **fields})
    await store.logins.add(login)
    return login


over_redis = pytest.mark.parametrize(
    "engine", [engine for engine in STATES if engine != "memory"], indirect=True
)
"""These backends tell changed logins from others."""


async def test_change_of_a_login_is_taken(store: StateBackend, clock: Clock) -> None:
    login = await stored(store, clock)
    await store.logins.take_changes("one", [SHARD])

    await change(store, login)

    changes = await store.logins.take_changes("one", [SHARD, OTHER_SHARD])
    assert login.id in changes.ids or SHARD in changes.shards


@over_redis
async def test_unchanged_login_is_not_taken(store: StateBackend, clock: Clock) -> None:
    login = await stored(store, clock)
    await stored(store, clock, id=f"{shard_of('other')}other", scene="other")
    await store.logins.take_changes("one", SHARDS)

    await change(store, login)

    assert await store.logins.take_changes("one", SHARDS) == ChangedLogins([login.id], [])
    assert await store.logins.take_changes("one", SHARDS) == ChangedLogins([], [])


@over_redis
async def test_change_is_taken_by_its_instance_only(store: StateBackend, clock: Clock) -> None:
    login = await stored(store, clock, instance="two")
    for instance in ("one", "two"):
        await store.logins.take_changes(instance, SHARDS)

    await change(store, login)

    assert await store.logins.take_changes("one", SHARDS) == ChangedLogins([], [])
    assert await store.logins.take_changes("two", SHARDS) == ChangedLogins([login.id], [])


@over_redis
async def test_change_without_a_notice_is_not_taken(store: StateBackend, clock: Clock) -> None:
    login = await stored(store, clock)
    await store.logins.take_changes("one", [SHARD])

    await change(store, login, notify=False)

    assert await store.logins.take_changes("one", [SHARD]) == ChangedLogins([], [])


@over_redis
async def test_first_call_returns_whole_shards(clients: list[StateBackend], clock: Clock) -> None:
    login = await stored(clients[0], clock)
    await clients[0].logins.take_changes("one", [SHARD])
    await change(clients[-1], login)

    restarted = await clients[-1].logins.take_changes("one", [SHARD])

    assert list(restarted.shards) == [SHARD]


@over_redis
async def test_lost_reply_makes_the_next_call_return_whole_shards(
    clients: list[StateBackend], clock: Clock
) -> None:
    """The call of another client has the effect of a call whose reply is lost."""
    login = await stored(clients[0], clock)
    await clients[0].logins.take_changes("one", [SHARD, OTHER_SHARD])
    await change(clients[0], login)
    await clients[1].logins.take_changes("one", [SHARD])

    changes = await clients[0].logins.take_changes("one", [SHARD, OTHER_SHARD])

    assert changes == ChangedLogins([], [SHARD])


@over_redis
async def test_lost_data_makes_the_next_call_return_whole_shards(
    store: StateBackend, clock: Clock, engine: str, engines: Engines
) -> None:
    await store.logins.take_changes("one", [SHARD])

    engines.empty(engine)

    assert await store.logins.take_changes("one", [SHARD]) == ChangedLogins([], [SHARD])
    assert await store.logins.take_changes("one", [SHARD]) == ChangedLogins([], [])


async def test_late_call_returns_whole_shards(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    login = await stored(store, clock)
    await store.logins.take_changes("one", [SHARD])

    pass_time(CHANGES_TTL + 1)
    await change(store, login)

    changes = await store.logins.take_changes("one", [SHARD])
    assert list(changes.shards) == [SHARD]


async def test_memory_returns_whole_shards(clock: Clock) -> None:
    """Its changes are not kept: reading all logins costs no request."""
    store = open_state("memory://", clock)

    assert await store.logins.take_changes("one", [SHARD]) == ChangedLogins((), [SHARD])


async def test_unreachable_state_returns_whole_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.infrastructure.redis.reconnector.CONNECTION_WAIT_TIMEOUT", 0.0)
    state = open_state(f"redis://127.0.0.1:{free_port()}")
    await state.open()

    changes = await state.logins.take_changes("one", [SHARD, OTHER_SHARD])

    assert changes == ChangedLogins([], [SHARD, OTHER_SHARD])
    await state.close()
