"""Tests of the guarantees of state, over each backend."""

from __future__ import annotations

import asyncio
import json

import pytest
from msgspec.structs import replace

from broker.errors import Unavailable
from broker.identity.model import Phone, UserProfile
from broker.infrastructure.sharding import shard_of
from broker.login.match import Match
from broker.login.model import State
from broker.login.ports import LOGIN_RETENTION, SwapResult
from broker.monitoring.ports import INSTANCE_TTL, Profile
from broker.sessions.model import Session, new_session_id
from broker.sessions.ports import SESSIONS_MAX
from broker.state import StateBackend, open_state
from broker.state.memory.login_images import MemoryImages
from broker.state.memory.logins import MemoryLoginStore
from broker.state.memory.sessions import MemorySessionStore
from tests.support.builders import ALICE, BOB, LOGIN_ID, SCENE, Clock, a_login
from tests.support.servers.redis import MARGIN, Engines, PassTime
from tests.support.waiting import opened


async def test_login_is_found_by_id_and_by_scene(store: StateBackend, clock: Clock) -> None:
    login = a_login(clock)

    await store.logins.add(login)

    assert await store.logins.get(LOGIN_ID) == login
    assert await store.logins.by_scene(SCENE) == login
    assert await store.logins.get(SCENE) is None
    assert await store.logins.by_scene(LOGIN_ID) is None


async def test_scene_returns_the_newer_login(store: StateBackend, clock: Clock) -> None:
    await store.logins.add(a_login(clock))
    newer = a_login(clock, id=f"{LOGIN_ID}-newer")

    await store.logins.add(newer)

    assert await store.logins.by_scene(SCENE) == newer


async def test_swap_stores_a_change(store: StateBackend, clock: Clock) -> None:
    before = a_login(clock)
    await store.logins.add(before)
    after = replace(before, state=State.SCANNED, phone=ALICE, version=1)

    assert await store.logins.swap(before, after)

    assert await store.logins.get(LOGIN_ID) == after
    assert await store.logins.by_scene(SCENE) == after


async def test_one_of_simultaneous_swaps_succeeds(store: StateBackend, clock: Clock) -> None:
    before = a_login(clock)
    await store.logins.add(before)
    changes = [replace(before, instance=f"i{number}", version=1) for number in range(50)]

    results = await asyncio.gather(*(store.logins.swap(before, after) for after in changes))

    assert results.count(SwapResult.STORED) == 1
    assert await store.logins.get(LOGIN_ID) == changes[results.index(SwapResult.STORED)]


async def test_swap_of_an_unknown_login_fails(store: StateBackend, clock: Clock) -> None:
    login = a_login(clock)

    assert not await store.logins.swap(login, replace(login, version=1))
    assert await store.logins.get(LOGIN_ID) is None


async def test_login_is_deleted_after_its_retention(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    await store.logins.add(a_login(clock))

    pass_time(120 + LOGIN_RETENTION - MARGIN)
    assert await store.logins.get(LOGIN_ID) is not None
    pass_time(MARGIN)
    assert await store.logins.get(LOGIN_ID) is None
    assert await store.logins.by_scene(SCENE) is None


async def test_retention_begins_at_the_extended_end(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    before = a_login(clock)
    await store.logins.add(before)
    pass_time(110)
    await store.logins.swap(before, replace(before, version=1, expires_at=clock() + 60))

    pass_time(60 + LOGIN_RETENTION - MARGIN)
    assert await store.logins.get(LOGIN_ID) is not None
    pass_time(MARGIN)
    assert await store.logins.get(LOGIN_ID) is None


async def test_all_fields_of_a_login_are_stored(store: StateBackend, clock: Clock) -> None:
    before = a_login(clock)
    await store.logins.add(before)
    after = replace(
        before,
        instance="one",
        state=State.CONFIRMED,
        phone=ALICE,
        subject="爱丽丝",
        confirmed_at=clock() + 1.25,
        unregistered=True,
        redeemed_at=clock() + 3.5,
        version=1_000,
        request="r" * 43,
        scope=("openid", "groups"),
        profile=UserProfile(subject="爱丽丝", groups=("admins",)),
        origin="https://shop.example",
        known=("k" * 32,),
        is_match_requested=True,
        match=Match(kind="number", answer="07", choices=("07", "83", "12"), tries=1),
        phone_ip="2001:db8::1",
        other_scans=("p" * 32, "q" * 32),
        reason="policy: new country",
    )

    await store.logins.swap(before, after)

    assert await store.logins.get(LOGIN_ID) == after


async def test_login_stored_by_an_older_version_is_readable(engines: Engines, clock: Clock) -> None:
    """Instances of both versions share the state during a rolling restart."""
    engines.empty("redis")
    store = open_state(engines.url("redis"), clock)
    await opened(store)
    login = a_login(clock)
    await store.logins.add(login)
    [node] = engines.nodes("redis")
    with node.client() as client:
        [key] = client.keys("*:login:*")
        version, stored = client.get(key).split(b" ", 1)
        fields = json.loads(stored)
        assert "redeemed_at" not in fields
        fields["claim"] = ["id", clock() + 3]
        client.set(key, version + b" " + json.dumps(fields).encode())

    assert await store.logins.get(login.id) == login
    await store.close()


async def test_changed_returns_only_changed_and_missing_logins(
    store: StateBackend, clock: Clock
) -> None:
    logins = [a_login(clock, id=f"{shard_of(scene)}login", scene=scene) for scene in "ABCDEF"]
    for login in logins:
        await store.logins.add(login)
    changed = replace(logins[2], instance="two", version=11)
    await store.logins.swap(logins[2], changed)

    known = {login.id: login.version for login in logins}
    assert await store.logins.changed({**known, "Agone": 1}) == {changed.id: changed, "Agone": None}
    assert await store.logins.changed({changed.id: 1}) == {changed.id: changed}
    assert await store.logins.changed({}) == {}


@pytest.mark.parametrize("junk", ["", "junk", "7", "7 junk", "7 {}", "7 []", "7 " + "[" * 100_000])
async def test_unreadable_values_count_as_missing(
    engines: Engines, clock: Clock, junk: str
) -> None:
    engines.empty("redis")
    store = open_state(engines.url("redis"), clock)
    await opened(store)
    login, valid = a_login(clock), a_login(clock, id="Asound", scene="sound")
    session = a_session(clock, seconds=10)
    await store.logins.add(login)
    await store.sessions.put(session)
    [node] = engines.nodes("redis")
    with node.client() as client:
        for key in client.keys("*:login:*"):
            client.set(key, junk)
        for key in client.keys("*:session:*"):
            client.set(key, junk)
    await store.logins.add(valid)

    assert await store.logins.get(login.id) is None
    assert await store.logins.by_scene(login.scene) is None
    assert await store.logins.changed({login.id: 0, valid.id: 1}) == {
        login.id: None,
        valid.id: valid,
    }
    assert await store.sessions.get(session.id) is None
    assert await store.sessions.end(ALICE) == 1
    await store.close()


async def test_secure_returns_for_a_stored_login(store: StateBackend, clock: Clock) -> None:
    login = a_login(clock)
    await store.logins.add(login)

    await store.logins.secure(login)


async def test_thousands_of_simultaneous_operations_succeed(
    store: StateBackend, clock: Clock
) -> None:
    scenes = [f"scene-{number}" for number in range(2_500)]
    logins = [a_login(clock, id=f"{shard_of(scene)}{scene}", scene=scene) for scene in scenes]

    await asyncio.gather(*(store.logins.add(login) for login in logins))
    found = await asyncio.gather(*(store.logins.get(login.id) for login in logins))

    assert found == logins


def a_session(
    clock: Clock, phone: Phone = ALICE, *, seconds: float = 100, latest: float = 1_000
) -> Session:
    return Session(
        id=new_session_id(phone),
        skey_hash=b"h",
        phone=phone,
        expires_at=clock() + seconds,
        latest_end=clock() + max(latest, seconds),
        session_key=(b"sealed", "key"),
    )


async def stored_numbers(store: StateBackend, sessions: list[Session]) -> list[int]:
    """Return the numbers of the sessions that are stored."""
    found = [await store.sessions.get(session.id) for session in sessions]
    return [number for number, session in enumerate(found) if session]


async def test_session_exists_until_its_end(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    session = a_session(clock, seconds=60)
    await store.sessions.put(session)

    pass_time(60 - MARGIN)
    assert await store.sessions.get(session.id) == session
    pass_time(MARGIN)
    assert await store.sessions.get(session.id) is None


async def test_end_of_a_session_can_be_extended(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    session = a_session(clock, seconds=60)
    await store.sessions.put(session)
    later = replace(session, expires_at=clock() + 120)

    assert await store.sessions.extend(session, later.expires_at)
    pass_time(120 - MARGIN)
    assert await store.sessions.get(session.id) == later
    pass_time(MARGIN)
    assert await store.sessions.get(session.id) is None


async def test_extended_session_is_found_by_its_user(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    session = a_session(clock, seconds=100, latest=1_000)
    await store.sessions.put(session)
    await store.sessions.put(a_session(clock, seconds=50, latest=50))
    for _ in range(9):
        pass_time(90)
        assert await store.sessions.extend(session, clock() + 100)

    assert await store.sessions.end(ALICE) == 1
    assert await store.sessions.get(session.id) is None


async def test_sessions_of_a_person_are_listed(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    short, long, ended = a_session(clock, seconds=60), a_session(clock), a_session(clock)
    other = a_session(clock, BOB)
    for session in (short, long, ended, other):
        await store.sessions.put(session)
    await store.sessions.end(ALICE, ended.id)

    assert {one.id for one in await store.sessions.of_person(ALICE)} == {short.id, long.id}
    pass_time(60)
    assert list(await store.sessions.of_person(ALICE)) == [long]


async def test_ended_session_is_not_extended(store: StateBackend, clock: Clock) -> None:
    one, other = a_session(clock), a_session(clock)
    await store.sessions.put(one)
    await store.sessions.put(other)
    await store.sessions.end(ALICE, one.id)
    await store.sessions.end(ALICE)

    for session in (one, other, a_session(clock)):
        assert not await store.sessions.extend(session, clock() + 200)
        assert await store.sessions.get(session.id) is None


async def test_session_ended_during_an_extension_stays_ended(
    store: StateBackend, clock: Clock
) -> None:
    sessions = [a_session(clock) for _ in range(SESSIONS_MAX)]
    for session in sessions:
        await store.sessions.put(session)

    extensions = [store.sessions.extend(session, clock() + 200) for session in sessions]
    *_, ended = await asyncio.gather(
        *extensions[:10],
        *(store.sessions.end(ALICE, session.id) for session in sessions[:5]),
        *extensions[10:],
        store.sessions.end(ALICE),
    )

    assert ended <= SESSIONS_MAX
    assert await stored_numbers(store, sessions) == []
    assert await store.sessions.end(ALICE) == 0


async def test_end_affects_only_sessions_of_the_phone(store: StateBackend, clock: Clock) -> None:
    other_app_phone = ALICE._replace(app="other")
    phones = [ALICE, ALICE, ALICE, BOB, other_app_phone]
    sessions = [a_session(clock, phone) for phone in phones]
    for session in sessions:
        await store.sessions.put(session)

    assert await store.sessions.end(ALICE, sessions[1].id) == 1
    assert await stored_numbers(store, sessions) == [0, 2, 3, 4]
    assert await store.sessions.end(ALICE, sessions[1].id) == 0
    assert await store.sessions.end(ALICE) == 2
    assert await stored_numbers(store, sessions) == [3, 4]
    assert await store.sessions.end(ALICE) == 0


async def test_session_over_the_limit_replaces_the_earliest_ending(
    store: StateBackend, clock: Clock
) -> None:
    sessions = [a_session(clock, seconds=100 + number) for number in range(SESSIONS_MAX)]
    for session in (*sessions, a_session(clock, BOB)):
        await store.sessions.put(session)
    await store.sessions.extend(sessions[0], clock() + 500)

    sessions.append(a_session(clock, seconds=50))
    await store.sessions.put(sessions[-1])

    assert await stored_numbers(store, sessions) == [0, *range(2, SESSIONS_MAX + 1)]
    assert await store.sessions.end(ALICE) == SESSIONS_MAX
    assert await store.sessions.end(BOB) == 1


async def test_ended_sessions_do_not_count_for_the_limit(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    sessions = [a_session(clock, seconds=100) for _ in range(2)]
    for session in sessions:
        await store.sessions.put(session)
    for _ in range(SESSIONS_MAX):
        await store.sessions.put(a_session(clock, seconds=3))
        pass_time(4)

    assert await stored_numbers(store, sessions) == [0, 1]
    assert await store.sessions.end(ALICE) == 2


async def test_leader_lease_has_one_holder_until_expiry(
    store: StateBackend, pass_time: PassTime
) -> None:
    assert await store.leader_leases.acquire("refill:shop", "one", seconds=30)

    pass_time(20)
    assert not await store.leader_leases.acquire("refill:shop", "two", seconds=30)
    assert await store.leader_leases.acquire("refill:other", "two", seconds=30)
    assert await store.leader_leases.acquire("refill:shop", "one", seconds=30)
    pass_time(20)
    assert not await store.leader_leases.acquire("refill:shop", "two", seconds=30)
    pass_time(MARGIN)
    assert await store.leader_leases.acquire("refill:shop", "two", seconds=30)
    assert not await store.leader_leases.acquire("refill:shop", "one", seconds=30)


async def test_leader_lease_is_released_by_its_holder_only(store: StateBackend) -> None:
    await store.leader_leases.acquire("refill", "one", seconds=30)

    await store.leader_leases.release("refill", "two")
    assert not await store.leader_leases.acquire("refill", "two", seconds=30)
    await store.leader_leases.release("refill", "one")
    assert await store.leader_leases.acquire("refill", "two", seconds=30)


async def test_one_of_simultaneous_acquires_succeeds(store: StateBackend) -> None:
    attempts = [
        store.leader_leases.acquire("refill", f"i{number}", seconds=30) for number in range(50)
    ]

    assert sum(await asyncio.gather(*attempts)) == 1


async def test_full_memory_refuses_logins_until_others_expire() -> None:
    clock = Clock()
    logins = MemoryLoginStore(clock, capacity=2)
    for number in range(2):
        await logins.add(a_login(clock, id=f"l{number}", scene=f"s{number}"))

    with pytest.raises(Unavailable):
        await logins.add(a_login(clock, id="l2", scene="s2"))
    clock.time += 120 + LOGIN_RETENTION
    await logins.add(a_login(clock, id="l2", scene="s2"))

    assert await logins.get("l2") is not None


async def test_full_memory_drops_the_earliest_ending_session() -> None:
    clock = Clock()
    sessions = MemorySessionStore(clock, capacity=2)
    stored = [a_session(clock, seconds=10 + end) for end in range(3)]
    await sessions.put(stored[0])
    await sessions.put(stored[1])
    await sessions.extend(stored[0], clock() + 20)
    await sessions.put(stored[2])

    assert [bool(await sessions.get(one.id)) for one in stored] == [True, False, True]
    assert await sessions.end(ALICE) == 2


def test_error_for_an_unknown_state_lists_all() -> None:
    with pytest.raises(ValueError, match=r"unknown state 'etcd': use one of .*memory"):
        open_state("etcd://localhost", Clock())


async def test_image_is_kept_until_its_code_ends(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    login = a_login(clock)
    assert await store.images.get(login) is None

    await store.images.put(login, "data:image/png;base64,QUJD")

    assert await store.images.get(login) == "data:image/png;base64,QUJD"
    assert await store.images.get(replace(login, id="another")) is None
    pass_time(121)
    assert await store.images.get(login) is None


async def test_user_code_belongs_to_the_first_login(store: StateBackend, clock: Clock) -> None:
    login = a_login(clock)

    assert await store.user_codes.claim("WDJBMJHT", login)

    assert await store.user_codes.claim("WDJBMJHT", login)
    assert not await store.user_codes.claim("WDJBMJHT", replace(login, id="another"))
    assert await store.user_codes.find("WDJBMJHT") == LOGIN_ID
    assert await store.user_codes.find("WDJBMJHX") is None


async def test_user_code_is_kept_as_long_as_its_login(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    await store.user_codes.claim("WDJBMJHT", a_login(clock))

    pass_time(120 + LOGIN_RETENTION - MARGIN)
    assert await store.user_codes.find("WDJBMJHT") == LOGIN_ID
    pass_time(MARGIN)
    assert await store.user_codes.find("WDJBMJHT") is None


async def test_extended_user_code_is_kept_until_the_extended_end(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    login = a_login(clock)
    await store.user_codes.claim("WDJBMJHT", login)
    pass_time(120)

    await store.user_codes.extend("WDJBMJHT", replace(login, expires_at=clock() + 600))

    pass_time(600 + LOGIN_RETENTION - MARGIN)
    assert await store.user_codes.find("WDJBMJHT") == LOGIN_ID
    pass_time(MARGIN)
    assert await store.user_codes.find("WDJBMJHT") is None


async def test_user_code_of_another_login_is_not_extended(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    login = a_login(clock)
    await store.user_codes.claim("WDJBMJHT", login)

    another = replace(login, id="another", expires_at=clock() + 600)
    await store.user_codes.extend("WDJBMJHT", another)

    pass_time(120 + LOGIN_RETENTION)
    assert await store.user_codes.find("WDJBMJHT") is None


async def test_unknown_user_code_is_not_extended(store: StateBackend, clock: Clock) -> None:
    await store.user_codes.extend("WDJBMJHT", a_login(clock))

    assert await store.user_codes.find("WDJBMJHT") is None


async def test_images_in_memory_are_bounded(clock: Clock) -> None:
    images = MemoryImages(clock, capacity=2)
    logins = [a_login(clock, id=str(number), expires_at=clock() + number) for number in (1, 2, 3)]

    for login in logins:
        await images.put(login, "data:,")

    assert [await images.get(login) for login in logins] == [None, "data:,", "data:,"]


async def test_instances_see_the_profiles_of_running_others(
    store: StateBackend, clock: Clock
) -> None:
    one = Profile(started_at=1.0, token_keys=("a", "b"), seal_keys=("c",))
    two = Profile(started_at=2.0, token_keys=("d",), seal_keys=("e",))

    assert await store.instances.publish("one", one) == {}
    assert await store.instances.publish("two", two) == {"one": one}
    await store.instances.leave("one")
    assert await store.instances.publish("two", two) == {}
    assert await store.instances.publish("one", one) == {"two": two}
    clock.time += INSTANCE_TTL + 1
    assert await store.instances.publish("one", one) == {}
