"""What every state promises, over each backend."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from broker.errors import Unavailable
from broker.login import State
from broker.state import KEPT, Session, Store, open_state
from broker.state.memory import MemoryLogins, MemorySessions
from tests.conftest import ALICE, Clock, a_login


async def test_a_login_is_found_by_id_and_by_scene(store: Store, clock: Clock) -> None:
    login = a_login(clock)

    await store.logins.add(login)

    assert await store.logins.get("login-1") == login
    assert await store.logins.by_scene("scene-1") == login
    assert await store.logins.get("scene-1") is None
    assert await store.logins.by_scene("login-1") is None


async def test_a_scene_finds_the_newer_login(store: Store, clock: Clock) -> None:
    await store.logins.add(a_login(clock))
    newer = a_login(clock, id="login-2")

    await store.logins.add(newer)

    assert await store.logins.by_scene("scene-1") == newer


async def test_swap_stores_a_change(store: Store, clock: Clock) -> None:
    before = a_login(clock)
    await store.logins.add(before)
    after = replace(before, state=State.SCANNED, phone=ALICE, version=1)

    assert await store.logins.swap(before, after)

    assert await store.logins.get("login-1") == after
    assert await store.logins.by_scene("scene-1") == after


async def test_of_many_swaps_of_one_version_one_succeeds(store: Store, clock: Clock) -> None:
    before = a_login(clock)
    await store.logins.add(before)
    changes = [replace(before, instance=f"i{number}", version=1) for number in range(50)]

    done = await asyncio.gather(*(store.logins.swap(before, after) for after in changes))

    assert done.count(True) == 1
    assert await store.logins.get("login-1") == changes[done.index(True)]


async def test_swap_of_a_login_that_is_gone_fails(store: Store, clock: Clock) -> None:
    login = a_login(clock)

    assert not await store.logins.swap(login, replace(login, version=1))
    assert await store.logins.get("login-1") is None


async def test_a_login_is_kept_past_its_end_and_then_forgotten(store: Store, clock: Clock) -> None:
    await store.logins.add(a_login(clock))

    clock.time += 120 + KEPT - 1
    assert await store.logins.get("login-1") is not None
    clock.time += 1
    assert await store.logins.get("login-1") is None
    assert await store.logins.by_scene("scene-1") is None


async def test_a_session_lives_until_its_end(store: Store, clock: Clock) -> None:
    session = Session(id="s", skey_hash=b"h", phone=ALICE, expires_at=clock() + 10)
    await store.sessions.put(session)

    clock.time += 9
    assert await store.sessions.get("s") == session
    clock.time += 1
    assert await store.sessions.get("s") is None


async def test_a_flood_ends_in_a_refusal_and_ended_logins_make_room() -> None:
    clock = Clock()
    logins = MemoryLogins(clock, capacity=2)
    for number in range(2):
        await logins.add(a_login(clock, id=f"l{number}", scene=f"s{number}"))

    with pytest.raises(Unavailable):
        await logins.add(a_login(clock, id="l2", scene="s2"))
    clock.time += 120 + KEPT
    await logins.add(a_login(clock, id="l2", scene="s2"))

    assert await logins.get("l2") is not None


async def test_where_sessions_have_no_room_the_one_that_ends_first_makes_some() -> None:
    clock = Clock()
    sessions = MemorySessions(clock, capacity=2)
    for end, name in enumerate("abc"):
        session = Session(id=name, skey_hash=b"", phone=ALICE, expires_at=clock() + 10 + end)
        await sessions.put(session)

    assert [bool(await sessions.get(name)) for name in "abc"] == [False, True, True]


def test_an_unknown_state_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown state 'etcd': want one of .*memory"):
        open_state("etcd://localhost", Clock())
