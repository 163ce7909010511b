"""Authorization requests, sign-in sessions, codes and families."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import count

import pytest

from broker.errors import Unavailable
from broker.infrastructure.coordination import DeferredCall
from broker.infrastructure.sharding import SHARDS
from broker.oidc.model import Family, hash_secret, subject_shard
from broker.oidc.ports import (
    DROPPED_TTL,
    ENDED_TTL,
    FAMILIES_MAX,
    SIGN_INS_MAX,
    TOMBSTONE_TTL,
    FamilyState,
    Unusable,
)
from broker.state import StateBackend
from broker.state.memory.authorization_requests import MemoryAuthorizationRequests
from tests.support.builders import Clock
from tests.support.grants import (
    CODE_HASH,
    COOKIE_HASH,
    SUBJECT,
    a_code,
    a_family,
    a_grant,
    a_request,
    a_sign_in,
)
from tests.support.servers.redis import MARGIN, Engines, PassTime

SHARD = subject_shard(SUBJECT)
OTHER_HASH = b"x" * 32

NEIGHBOUR = next(
    name for name in map("pretend:bob-{}".format, count()) if subject_shard(name) == SHARD
)
"""Another subject in the same shard."""


async def swap(
    store: StateBackend, before: Family, after: Family, *, idle: float = 100, grace: float = 30
) -> FamilyState | None:
    return await store.grants.swap(before, after, idle=idle, grace=grace)


async def test_request_is_stored_until_its_end(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    request = a_request(clock)
    await store.authorization_requests.put(request)

    assert await store.authorization_requests.get(request.id) == request
    pass_time(60)
    assert await store.authorization_requests.get(request.id) is None


async def test_request_is_bound_to_one_cookie(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    request, requests = a_request(clock), store.authorization_requests
    await requests.put(request)
    hashes = [bytes([number]) * 32 for number in range(20)]

    until = clock() + 600
    results = await asyncio.gather(*(requests.bind(request.id, one, until) for one in hashes))

    assert results.count(True) == 1
    winner = hashes[results.index(True)]
    assert await requests.bind(request.id, winner, until)
    pass_time(590)
    bound = await requests.get(request.id)
    assert bound is not None
    assert bound.cookie_hash == winner


async def test_request_is_completed_by_one_login(store: StateBackend, clock: Clock) -> None:
    request, requests = a_request(clock), store.authorization_requests
    await requests.put(request)
    logins = [f"login-{number}" for number in range(20)]

    results = await asyncio.gather(*(requests.complete(request.id, one) for one in logins))

    assert results.count(True) == 1
    winner = logins[results.index(True)]
    assert await requests.complete(request.id, winner)
    completed = await requests.get(request.id)
    assert completed is not None
    assert completed.completed_by == winner


async def test_unknown_request_is_neither_bound_nor_completed(store: StateBackend) -> None:
    requests = store.authorization_requests

    assert not await requests.bind("x" * 43, COOKIE_HASH, 2_000_000)
    assert not await requests.complete("x" * 43, "login")


async def test_sign_in_is_found_by_cookie_and_subject(store: StateBackend, clock: Clock) -> None:
    sign_in = a_sign_in(clock)

    assert await store.sign_ins.save(sign_in, clock() + 100) == []

    assert await store.sign_ins.by_cookie(SHARD, COOKIE_HASH) == sign_in
    assert list(await store.sign_ins.of_subject(SUBJECT)) == [sign_in]
    assert await store.sign_ins.by_cookie(SHARD, OTHER_HASH) is None


async def test_sign_in_ends_by_time(store: StateBackend, clock: Clock, pass_time: PassTime) -> None:
    await store.sign_ins.save(a_sign_in(clock), clock() + 100)

    pass_time(100)

    assert await store.sign_ins.by_cookie(SHARD, COOKIE_HASH) is None
    assert list(await store.sign_ins.of_subject(SUBJECT)) == []


async def test_sign_in_without_cookie_is_listed(store: StateBackend, clock: Clock) -> None:
    sign_in = a_sign_in(clock, cookie_hash=None)

    await store.sign_ins.save(sign_in, clock() + 100)

    assert list(await store.sign_ins.of_subject(SUBJECT)) == [sign_in]


async def test_saved_again_changes_the_cookie_and_joins_apps(
    store: StateBackend, clock: Clock
) -> None:
    sign_in = a_sign_in(clock)
    await store.sign_ins.save(sign_in, clock() + 100)

    again = replace(sign_in, cookie_hash=OTHER_HASH, apps={"wiki": 5.0}, incarnations={"wiki": "w"})
    await store.sign_ins.save(again, clock() + 100)

    assert await store.sign_ins.by_cookie(SHARD, COOKIE_HASH) is None
    stored = await store.sign_ins.by_cookie(SHARD, OTHER_HASH)
    assert stored is not None
    assert stored.apps == {**sign_in.apps, "wiki": 5.0}
    assert stored.incarnations == {"shop": "first", "wiki": "w"}


async def test_surplus_sign_in_ends_the_first_to_expire(store: StateBackend, clock: Clock) -> None:
    sign_ins = [
        a_sign_in(clock, cookie_hash=bytes([number]) * 32) for number in range(SIGN_INS_MAX + 1)
    ]
    for number, sign_in in enumerate(sign_ins[:-1]):
        await store.sign_ins.save(sign_in, clock() + 1_000 - number)

    ended = await store.sign_ins.save(sign_ins[-1], clock() + 10)

    assert list(ended) == [sign_ins[-2]]
    assert await store.sign_ins.by_cookie(SHARD, bytes([SIGN_INS_MAX - 1]) * 32) is None
    assert len(await store.sign_ins.of_subject(SUBJECT)) == SIGN_INS_MAX


async def test_touch_extends_a_sign_in_and_joins_apps(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    sign_in = a_sign_in(clock)
    await store.sign_ins.save(sign_in, clock() + 100)
    used = replace(sign_in, used_at=clock() + 50, apps={"wiki": 7.0}, incarnations={"wiki": ""})

    assert await store.sign_ins.touch(used, clock() + 200)

    pass_time(150)
    stored = await store.sign_ins.by_cookie(SHARD, COOKIE_HASH)
    assert stored is not None
    assert stored.used_at == used.used_at
    assert stored.apps == {**sign_in.apps, "wiki": 7.0}


async def test_touch_does_not_extend_beyond_the_latest_end(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    sign_in = a_sign_in(clock, latest_end=clock() + 150)
    await store.sign_ins.save(sign_in, clock() + 100)

    assert await store.sign_ins.touch(sign_in, clock() + 200)

    pass_time(150)
    assert await store.sign_ins.by_cookie(SHARD, COOKIE_HASH) is None


async def test_ended_sign_in_is_not_restored(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    sign_in = a_sign_in(clock)
    await store.sign_ins.save(sign_in, clock() + 1_000)

    assert await store.sign_ins.end(SUBJECT, sign_in.sid) == sign_in
    assert await store.sign_ins.end(SUBJECT, sign_in.sid) is None

    pass_time(ENDED_TTL - MARGIN)
    await store.sign_ins.save(sign_in, clock() + 1_000)
    assert not await store.sign_ins.touch(sign_in, clock() + 1_000)
    assert await store.sign_ins.by_cookie(SHARD, COOKIE_HASH) is None
    assert list(await store.sign_ins.of_subject(SUBJECT)) == []


async def test_another_subject_cannot_end_a_sign_in(store: StateBackend, clock: Clock) -> None:
    sign_in = a_sign_in(clock)
    await store.sign_ins.save(sign_in, clock() + 1_000)

    assert await store.sign_ins.end(NEIGHBOUR, sign_in.sid) is None

    assert await store.sign_ins.by_cookie(SHARD, COOKIE_HASH) == sign_in


async def test_touch_keeps_a_later_sign_in(store: StateBackend, clock: Clock) -> None:
    sign_in = a_sign_in(clock)
    later = replace(sign_in, auth_time=clock() + 10, login_id="login-2")
    await store.sign_ins.save(later, clock() + 100)

    await store.sign_ins.touch(replace(sign_in, used_at=clock() + 20), clock() + 100)

    stored = await store.sign_ins.by_cookie(SHARD, COOKIE_HASH)
    assert stored == replace(later, used_at=clock() + 20)


async def test_end_is_not_lost_to_a_simultaneous_save(store: StateBackend, clock: Clock) -> None:
    sign_ins = [a_sign_in(clock, cookie_hash=bytes([number]) * 32) for number in range(20)]

    await asyncio.gather(
        *(store.sign_ins.save(one, clock() + 1_000) for one in sign_ins),
        *(store.sign_ins.touch(one, clock() + 1_000) for one in sign_ins),
        *(store.sign_ins.end(SUBJECT, one.sid) for one in sign_ins),
        *(store.sign_ins.save(one, clock() + 1_000) for one in sign_ins),
    )

    assert list(await store.sign_ins.of_subject(SUBJECT)) == []


async def test_code_gives_one_family_of_parallel_calls(store: StateBackend, clock: Clock) -> None:
    sign_in = a_sign_in(clock)
    await store.sign_ins.save(sign_in, clock() + 1_000)
    grant = a_grant(sign_in)
    await store.grants.save_code(SHARD, CODE_HASH, a_code(clock, grant))
    families = [a_family(clock, grant, used_at=clock() + number) for number in range(20)]

    saved = await asyncio.gather(*(store.grants.save(one, CODE_HASH) for one in families))

    assert saved.count(True) == 1
    stored = await store.grants.get(grant.family)
    assert stored is not None
    assert stored.family == families[saved.index(True)]
    found = await store.grants.find_code(SHARD, CODE_HASH)
    assert found == (None, Unusable.USED, grant.family)


async def test_found_code_can_still_be_exchanged(store: StateBackend, clock: Clock) -> None:
    sign_in = a_sign_in(clock)
    await store.sign_ins.save(sign_in, clock() + 1_000)
    code = a_code(clock, a_grant(sign_in))
    await store.grants.save_code(SHARD, CODE_HASH, code)

    for _ in range(2):
        assert (await store.grants.find_code(SHARD, CODE_HASH)).code == code

    assert await store.grants.save(a_family(clock, code.grant), CODE_HASH)


async def test_code_may_be_stored_before_its_sign_in(store: StateBackend, clock: Clock) -> None:
    sign_in = a_sign_in(clock)
    code = a_code(clock, a_grant(sign_in))
    await store.grants.save_code(SHARD, CODE_HASH, code)

    await store.sign_ins.save(sign_in, clock() + 1_000)

    assert (await store.grants.find_code(SHARD, CODE_HASH)).code == code


async def test_expired_code_gives_no_family(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    sign_in = a_sign_in(clock)
    await store.sign_ins.save(sign_in, clock() + 1_000)
    grant = a_grant(sign_in)
    await store.grants.save_code(SHARD, CODE_HASH, a_code(clock, grant))
    pass_time(60)

    assert not await store.grants.save(a_family(clock, grant), CODE_HASH)

    assert await store.grants.get(grant.family) is None


async def test_code_of_each_shard_is_used(store: StateBackend, clock: Clock) -> None:
    subjects = {subject_shard(name): name for name in map("pretend:{}".format, range(1_000))}
    assert set(subjects) == set(SHARDS)

    for shard, subject in subjects.items():
        sign_in = a_sign_in(clock, subject=subject, cookie_hash=None)
        code = a_code(clock, a_grant(sign_in))
        await store.sign_ins.save(sign_in, clock() + 1_000)
        code_hash = hash_secret(shard)
        await store.grants.save_code(shard, code_hash, code)

        assert (await store.grants.find_code(shard, code_hash)).code == code
        assert await store.grants.save(a_family(clock, code.grant), code_hash)


async def test_used_code_is_recognised_after_its_end(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    sign_in = a_sign_in(clock)
    await store.sign_ins.save(sign_in, clock() + 1_000)
    await store.grants.save_code(SHARD, CODE_HASH, a_code(clock, a_grant(sign_in)))
    await store.grants.use_code(SHARD, CODE_HASH)

    pass_time(60 + TOMBSTONE_TTL - MARGIN)
    assert (await store.grants.find_code(SHARD, CODE_HASH)).why is Unusable.USED
    pass_time(MARGIN + 1)
    assert (await store.grants.find_code(SHARD, CODE_HASH)).why is Unusable.UNKNOWN


async def test_code_expires(store: StateBackend, clock: Clock, pass_time: PassTime) -> None:
    sign_in = a_sign_in(clock)
    await store.sign_ins.save(sign_in, clock() + 1_000)
    await store.grants.save_code(SHARD, CODE_HASH, a_code(clock, a_grant(sign_in)))

    pass_time(60)

    assert (await store.grants.find_code(SHARD, CODE_HASH)).why is Unusable.UNKNOWN


async def test_used_code_is_not_stored_again(store: StateBackend, clock: Clock) -> None:
    sign_in = a_sign_in(clock)
    await store.sign_ins.save(sign_in, clock() + 1_000)
    code = a_code(clock, a_grant(sign_in))
    await store.grants.save_code(SHARD, CODE_HASH, code)
    await store.grants.use_code(SHARD, CODE_HASH)

    await store.grants.save_code(SHARD, CODE_HASH, code)

    assert (await store.grants.find_code(SHARD, CODE_HASH)).why is Unusable.USED
    assert not await store.grants.save(a_family(clock, code.grant), CODE_HASH)


async def test_code_of_an_ended_sign_in_is_refused(store: StateBackend, clock: Clock) -> None:
    sign_in = a_sign_in(clock)
    await store.sign_ins.save(sign_in, clock() + 1_000)
    grant = a_grant(sign_in, offline=True)
    await store.grants.save_code(SHARD, CODE_HASH, a_code(clock, grant))
    await store.sign_ins.end(SUBJECT, sign_in.sid)

    found = await store.grants.find_code(SHARD, CODE_HASH)

    assert found == (None, Unusable.ENDED, grant.family)
    assert not await store.grants.save(a_family(clock, grant), CODE_HASH)


async def test_family_tells_whether_its_sign_in_is_active(
    store: StateBackend, clock: Clock
) -> None:
    sign_in = a_sign_in(clock)
    await store.sign_ins.save(sign_in, clock() + 1_000)
    family = a_family(clock, a_grant(sign_in))
    assert await store.grants.save(family)
    family_id = family.grant.family

    assert await store.grants.get(family_id) == FamilyState(family, True)
    assert list(await store.grants.of_subject(SUBJECT)) == [FamilyState(family, True)]
    await store.sign_ins.end(SUBJECT, sign_in.sid)
    assert await store.grants.get(family_id) == FamilyState(family, False)


async def test_one_of_parallel_swaps_succeeds(store: StateBackend, clock: Clock) -> None:
    sign_in = a_sign_in(clock)
    await store.sign_ins.save(sign_in, clock() + 1_000)
    family = a_family(clock, a_grant(sign_in))
    await store.grants.save(family)
    changes = [replace(family, n=1, rotated_at=clock() + number) for number in range(20)]

    results = await asyncio.gather(*(swap(store, family, one) for one in changes))

    stored = await store.grants.get(family.grant.family)
    assert stored is not None
    assert stored.family in changes
    assert set(map(repr, results)) == {repr(stored)}


async def test_grace_counts_from_the_stored_rotation(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    """An outage may last longer than the grace, and the state then carries out the swap."""
    family = a_family(clock, a_grant(a_sign_in(clock), offline=True))
    await store.grants.save(family)
    after = replace(family, n=1, rotated_at=clock())
    pass_time(60)

    assert await swap(store, family, after) == FamilyState(after, False, in_grace=True)

    pass_time(25)
    assert await store.grants.get(family.grant.family) == FamilyState(after, False, in_grace=True)
    pass_time(5)
    assert await store.grants.get(family.grant.family) == FamilyState(after, False, in_grace=False)


async def test_refused_swap_starts_no_grace(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    family = a_family(clock, a_grant(a_sign_in(clock), offline=True))
    await store.grants.save(family)
    after = replace(family, n=1)
    await swap(store, family, after)
    pass_time(30)

    assert await swap(store, family, after) == FamilyState(after, False, in_grace=False)


async def test_swap_extends_the_sign_in(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    sign_in = a_sign_in(clock, latest_end=clock() + 180)
    await store.sign_ins.save(sign_in, clock() + 100)
    family = a_family(clock, a_grant(sign_in))
    await store.grants.save(family)

    pass_time(90)
    await swap(store, family, replace(family, n=1, used_at=clock()))

    pass_time(80)
    stored = await store.sign_ins.by_cookie(SHARD, COOKIE_HASH)
    assert stored == replace(sign_in, used_at=family.used_at + 90)
    pass_time(MARGIN)
    assert await store.sign_ins.by_cookie(SHARD, COOKIE_HASH) is None


async def test_dropped_family_is_not_restored(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    sign_in = a_sign_in(clock)
    family = a_family(clock, a_grant(sign_in))
    await store.grants.save(family)

    assert await store.grants.drop(family.grant.family) == family
    assert await store.grants.drop(family.grant.family) is None

    pass_time(ENDED_TTL - MARGIN)
    assert not await store.grants.save(family)
    assert await swap(store, family, replace(family, n=1)) is None
    assert await store.grants.get(family.grant.family) is None
    assert list(await store.grants.of_subject(SUBJECT)) == []


async def test_dropped_family_is_remembered_beyond_its_end(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    family = replace(a_family(clock, a_grant(a_sign_in(clock))), n=0)
    await store.grants.save(family)
    await store.grants.drop(family.grant.family)
    await store.grants.drop(family.grant.family)

    pass_time(DROPPED_TTL - MARGIN)
    assert await store.grants.was_dropped(family.grant.family)
    pass_time(MARGIN)
    assert not await store.grants.was_dropped(family.grant.family)


async def test_dropped_family_without_record_is_remembered(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    family_id = a_grant(a_sign_in(clock)).family

    assert await store.grants.drop(family_id) is None

    pass_time(DROPPED_TTL - MARGIN)
    assert await store.grants.was_dropped(family_id)


async def test_dropped_family_with_refresh_tokens_is_remembered_briefly(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    family = replace(a_family(clock, a_grant(a_sign_in(clock))), n=1)
    await store.grants.save(family)
    await store.grants.drop(family.grant.family)

    assert await store.grants.was_dropped(family.grant.family)
    pass_time(ENDED_TTL)
    assert not await store.grants.was_dropped(family.grant.family)


async def test_expired_family_was_not_dropped(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    family = a_family(clock, a_grant(a_sign_in(clock)))
    await store.grants.save(family)
    assert not await store.grants.was_dropped(family.grant.family)

    pass_time(1_000)

    assert not await store.grants.was_dropped(family.grant.family)


async def test_family_of_an_ended_sign_in_is_not_saved(store: StateBackend, clock: Clock) -> None:
    sign_in = a_sign_in(clock)
    await store.sign_ins.save(sign_in, clock() + 1_000)
    await store.sign_ins.end(SUBJECT, sign_in.sid)

    assert not await store.grants.save(a_family(clock, a_grant(sign_in, offline=True)))

    assert list(await store.grants.of_subject(SUBJECT)) == []


async def test_offline_family_outlives_its_sign_in(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    sign_in = a_sign_in(clock)
    await store.sign_ins.save(sign_in, clock() + 100)
    family = a_family(clock, a_grant(sign_in, offline=True))
    await store.grants.save(family)

    pass_time(100)

    assert await store.grants.get(family.grant.family) == FamilyState(family, False)


async def test_surplus_family_ends_the_first_to_expire(store: StateBackend, clock: Clock) -> None:
    sign_in = a_sign_in(clock)
    families = [
        a_family(clock, a_grant(sign_in), expires_at=clock() + 1_000 - number)
        for number in range(FAMILIES_MAX + 1)
    ]
    for family in families[:-1]:
        await store.grants.save(family)

    assert await store.grants.save(families[-1])

    assert await store.grants.get(families[-2].grant.family) is None
    assert len(await store.grants.of_subject(SUBJECT)) == FAMILIES_MAX


async def test_family_that_is_dropped_first_is_not_saved(store: StateBackend, clock: Clock) -> None:
    family = a_family(clock, a_grant(a_sign_in(clock)))
    await store.grants.drop(family.grant.family)

    assert not await store.grants.save(family)


async def test_family_expires(store: StateBackend, clock: Clock, pass_time: PassTime) -> None:
    family = a_family(clock, a_grant(a_sign_in(clock)))
    await store.grants.save(family)

    pass_time(1_000)

    assert await store.grants.get(family.grant.family) is None
    assert list(await store.grants.of_subject(SUBJECT)) == []


async def test_every_record_has_an_end(
    store: StateBackend, engine: str, engines: Engines, clock: Clock
) -> None:
    sign_in, ended = a_sign_in(clock), a_sign_in(clock, cookie_hash=OTHER_HASH)
    family = a_family(clock, a_grant(sign_in))
    await store.authorization_requests.put(a_request(clock))
    await store.retries.put(DeferredCall("call", "logout", "shop", "{}"), clock())
    for one in (sign_in, ended):
        await store.sign_ins.save(one, clock() + 100)
    await store.sign_ins.touch(sign_in, clock() + 200)
    await store.sign_ins.end(SUBJECT, ended.sid)
    await store.grants.save_code(SHARD, CODE_HASH, a_code(clock, family.grant))
    await store.grants.save(family, CODE_HASH)
    await swap(store, family, replace(family, n=1), idle=300)
    await store.grants.drop("x" * 22)

    for node in engines.nodes(engine):
        with node.client() as client:
            assert [key for key in client.scan_iter() if client.pttl(key) < 0] == []


async def test_full_memory_refuses_authorization_requests(clock: Clock) -> None:
    requests = MemoryAuthorizationRequests(clock, capacity=2)
    for _ in range(2):
        await requests.put(a_request(clock))

    with pytest.raises(Unavailable):
        await requests.put(a_request(clock))

    clock.time += 60
    await requests.put(a_request(clock))
