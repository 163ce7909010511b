"""A login's code from the pool: lent, given back, and what an old photograph of it can do."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from msgspec import structs

from broker.blobs.pictures import ObjectPictureStore
from broker.errors import Unavailable
from broker.identity.errors import UnregisteredUser
from broker.login.errors import AlreadyScanned, LoginExpired, UnknownLogin, UnknownScene
from broker.login.model import REDEEM_LIFETIME, Browser, State
from broker.login.ports import LOGIN_RETENTION
from broker.login.service import NewLogin
from broker.pool.code_pool import CodePool
from broker.pool.model import CodeKey, CodeLease, OfferedCode, PoolLevel
from broker.state import StateBackend, open_state
from tests.support.builders import (
    ALICE,
    BOB,
    FIREFOX,
    LOGIN_ID,
    OTHER,
    SHOP,
    Clock,
    FixedDirectory,
    LoginMethods,
    a_login,
)
from tests.support.servers.redis import Engines
from tests.support.waiting import opened

LIFE, REST, REGISTER = 120, 600, 600
"""A login's, its code's, and the time to register, as conftest.py has them."""

CHROME = Browser("198.51.100.9", "Chrome")
POOLED = replace(SHOP, code_source="pool")

MakeLoginService = Callable[..., LoginMethods]


def code(number: int, drawing: int = 0) -> OfferedCode:
    name = f"{number}-{drawing}"
    return OfferedCode(number=number, drawing=drawing, scene=f"scene-{name}", picture=f"{name}.png")


@pytest.fixture
async def store(store: StateBackend) -> StateBackend:
    """With a pool of ten codes."""
    await store.code_leases.offer("shop", [code(number) for number in range(10)])
    return store


@pytest.fixture
def login_service(make_login_service: MakeLoginService) -> LoginMethods:
    return make_login_service(apps=[POOLED, OTHER])


def pool_of(store: StateBackend, clock: Clock, *, rest: float = REST, uses: int = 100) -> CodePool:
    pictures = ObjectPictureStore("file:///nowhere", public_url="https://cdn.example/codes")
    return CodePool(
        leases=store.code_leases,
        pictures=pictures,
        clock=clock,
        cooldown=rest,
        retention=LOGIN_RETENTION,
        uses=uses,
    )


async def begin(login_service: LoginMethods, browser: Browser = FIREFOX) -> NewLogin:
    return await login_service.begin("shop", browser, has_socket=True)


async def level(store: StateBackend) -> PoolLevel:
    return await store.code_leases.level("shop")


def number_of(new_login: NewLogin) -> int:
    assert new_login.login.lease is not None
    return new_login.login.lease.number


async def test_a_login_has_the_lowest_free_code_and_the_browser_its_picture(
    login_service: LoginMethods,
) -> None:
    new_logins = [await begin(login_service) for _ in range(3)]

    assert [number_of(one) for one in new_logins] == [0, 1, 2]
    assert [one.login.scene for one in new_logins] == ["scene-0-0", "scene-1-0", "scene-2-0"]
    assert new_logins[2].code_url == "https://cdn.example/codes/2-0.png"
    assert await login_service.code_url("scene-2-0") == new_logins[2].code_url


async def test_an_app_that_draws_live_takes_none_of_the_pool(
    login_service: LoginMethods, store: StateBackend
) -> None:
    await store.code_leases.offer("other", [code(0)])

    new_login = await login_service.begin("other", FIREFOX, has_socket=True)

    assert new_login.login.lease is None
    assert new_login.code_url.startswith("data:image/svg+xml")
    assert (await store.code_leases.level("other")).free == 1


async def test_where_none_is_free_a_code_is_drawn_live(login_service: LoginMethods) -> None:
    for _ in range(10):
        await begin(login_service)

    new_login = await begin(login_service)

    assert new_login.login.lease is None
    assert new_login.code_url.startswith("data:image/svg+xml")
    assert (await login_service.scan(new_login.login.scene, ALICE)).login.id == new_login.login.id


# --- given back


async def redeemed(login_service: LoginMethods, new_login: NewLogin) -> None:
    await login_service.scan(new_login.login.scene, ALICE)
    await login_service.confirm(new_login.login.id, ALICE)
    await login_service.redeem(new_login.login.id, new_login.secret, app="shop")


async def denied(login_service: LoginMethods, new_login: NewLogin) -> None:
    await login_service.scan(new_login.login.scene, ALICE)
    await login_service.deny(new_login.login.id, ALICE)


async def cancelled(login_service: LoginMethods, new_login: NewLogin) -> None:
    await login_service.cancel(new_login.login.id, new_login.secret, app="shop")


async def abandoned(login_service: LoginMethods, new_login: NewLogin) -> None:
    await login_service.abandon(new_login.login.id)


End = Callable[[LoginMethods, NewLogin], Awaitable[None]]


@pytest.mark.parametrize("end", [redeemed, denied, cancelled, abandoned])
async def test_a_code_rests_once_its_login_is_over(
    login_service: LoginMethods, store: StateBackend, clock: Clock, end: End
) -> None:
    new_login = await begin(login_service)

    await end(login_service, new_login)
    await login_service.close()

    assert await level(store) == PoolLevel(free=9, leased=0, resting=1)
    assert number_of(await begin(login_service)) == 1
    clock.time += REST - 1
    assert number_of(await begin(login_service)) == 2
    clock.time += 1
    assert number_of(await begin(login_service)) == 0


async def test_a_code_stays_with_its_login_for_as_long_as_that_is_open(
    login_service: LoginMethods, store: StateBackend, clock: Clock
) -> None:
    new_login = await begin(login_service)
    await login_service.scan(new_login.login.scene, ALICE)
    clock.time += LIFE - 1
    await login_service.confirm(new_login.login.id, ALICE)

    clock.time += REDEEM_LIFETIME - 1
    await login_service.close()

    assert await level(store) == PoolLevel(free=9, leased=1, resting=0)
    assert await login_service.redeem(new_login.login.id, new_login.secret, app="shop")


async def test_a_code_whose_login_ran_out_or_whose_instance_is_gone_comes_back_with_time(
    make_login_service: MakeLoginService, store: StateBackend, clock: Clock
) -> None:
    """Nobody gives it back in either case."""
    await begin(make_login_service(instance="gone", apps=[POOLED]))
    other = make_login_service(instance="other", apps=[POOLED])

    clock.time += LIFE + REDEEM_LIFETIME
    assert await level(store) == PoolLevel(free=9, leased=0, resting=1)
    clock.time += REST - 1
    assert number_of(await begin(other)) == 1
    clock.time += 1
    assert number_of(await begin(other)) == 0


async def test_a_code_rests_for_as_long_as_its_login_is_kept(
    make_login_service: MakeLoginService, store: StateBackend, clock: Clock
) -> None:
    long = 900
    login_service = make_login_service(apps=[replace(POOLED, login_lifetime=long)])
    await denied(login_service, await begin(login_service))
    await login_service.close()

    clock.time += long + LOGIN_RETENTION - 1
    assert number_of(await begin(login_service)) == 1
    clock.time += 1
    assert number_of(await begin(login_service)) == 0


async def test_code_of_unregistered_login_rests_until_login_ends(
    make_login_service: MakeLoginService, store: StateBackend, clock: Clock
) -> None:
    login_service = make_login_service(apps=[POOLED], directory=FixedDirectory())
    new_login = await begin(login_service)
    await login_service.scan(new_login.login.scene, ALICE)
    with pytest.raises(UnregisteredUser):
        await login_service.confirm(new_login.login.id, ALICE)
    await login_service.close()

    assert await level(store) == PoolLevel(free=9, leased=0, resting=1)
    clock.time += REGISTER + LOGIN_RETENTION - 1
    assert number_of(await begin(login_service)) == 1
    clock.time += 1
    assert number_of(await begin(login_service)) == 0


async def test_a_rest_is_never_shorter_than_what_an_ended_login_is_kept_for(
    store: StateBackend, clock: Clock
) -> None:
    pool = pool_of(store, clock, rest=0)
    assert await pool.lease("shop", until=clock() + 10)

    clock.time += 10 + LOGIN_RETENTION - 1
    assert (await level(store)).resting == 1
    clock.time += 1
    assert (await level(store)).resting == 0


async def down(*said: object, **more: object) -> None:
    raise Unavailable


async def test_a_give_back_that_fails_says_nothing(
    store: StateBackend, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = pool_of(store, clock)
    lent = await pool.lease("shop", until=clock() + LIFE)
    assert lent is not None
    monkeypatch.setattr(store.code_leases, "return_code", down)

    await pool.return_code("shop", lent.lease, until=clock() + LIFE)

    assert (await level(store)).leased == 1


@pytest.mark.parametrize("end", [redeemed, denied, cancelled, abandoned])
async def test_a_code_that_cannot_be_given_back_harms_no_login_and_comes_back_with_time(
    login_service: LoginMethods,
    store: StateBackend,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    end: End,
) -> None:
    new_login = await begin(login_service)
    monkeypatch.setattr(store.code_leases, "return_code", down)

    await end(login_service, new_login)
    await login_service.close()

    ended = await login_service.get(new_login.login.id)
    assert ended is not None
    assert ended.state.value == end.__name__.replace("abandoned", "cancelled")
    assert await level(store) == PoolLevel(free=9, leased=1, resting=0)
    clock.time += LIFE + REDEEM_LIFETIME + REST
    assert await level(store) == PoolLevel(free=10, leased=0, resting=0)


async def test_a_code_is_worn_after_so_many_logins_and_an_empty_pool_is_counted(
    clock: Clock,
) -> None:
    """For whoever keeps the pool; it is lent until that has dealt with it."""
    store = open_state("memory://", clock)
    await store.code_leases.offer("shop", [code(7, drawing=2)])
    pool = pool_of(store, clock, uses=3)
    worn = []

    for _ in range(4):
        assert await pool.lease("shop", until=clock() + LIFE)
        assert await pool.lease("shop", until=clock() + LIFE) is None
        worn.append(set(pool.codes_to_retire))
        clock.time += LIFE + REST

    assert worn == [set(), set(), {CodeKey("shop", 7, 2)}, {CodeKey("shop", 7, 2)}]
    assert pool.missed_leases == {"shop": 4}


# --- an old photograph


async def test_a_photograph_of_a_code_whose_login_another_phone_scanned_is_refused(
    login_service: LoginMethods,
) -> None:
    new_login = await begin(login_service)
    await login_service.scan(new_login.login.scene, ALICE)

    with pytest.raises(AlreadyScanned):
        await login_service.scan(new_login.login.scene, BOB)

    await login_service.confirm(new_login.login.id, ALICE)
    with pytest.raises(AlreadyScanned):
        await login_service.scan(new_login.login.scene, BOB)


@pytest.mark.parametrize("end", [redeemed, denied, cancelled, abandoned])
async def test_a_photograph_of_a_code_that_rests_leads_nowhere(
    login_service: LoginMethods, clock: Clock, end: End
) -> None:
    new_login = await begin(login_service)
    await end(login_service, new_login)
    await login_service.close()

    for _ in range(REST + 1):
        with pytest.raises(UnknownScene):
            await login_service.scan(new_login.login.scene, BOB)
        clock.time += 1


async def test_a_photograph_of_a_code_that_ran_out_leads_nowhere(
    login_service: LoginMethods, clock: Clock
) -> None:
    new_login = await begin(login_service)

    clock.time += LIFE
    with pytest.raises(LoginExpired):
        await login_service.scan(new_login.login.scene, BOB)
    clock.time += LOGIN_RETENTION
    for _ in range(REDEEM_LIFETIME + REST - LOGIN_RETENTION + 1):
        with pytest.raises(UnknownScene):
            await login_service.scan(new_login.login.scene, BOB)
        clock.time += 1


async def test_a_photograph_of_a_code_that_is_on_another_screen_shows_that_browser(
    login_service: LoginMethods, clock: Clock
) -> None:
    former = await begin(login_service)
    await denied(login_service, former)
    await login_service.close()
    clock.time += REST
    present = await begin(login_service, CHROME)
    clock.time += 7

    seen = (await login_service.scan(former.login.scene, BOB)).login

    assert seen.scene == former.login.scene
    assert seen.id == present.login.id != former.login.id
    assert seen.browser == CHROME
    assert clock() - seen.began_at == 7


@pytest.mark.parametrize("end", [redeemed, denied, cancelled, abandoned])
async def test_whoever_had_a_code_before_can_do_nothing_to_the_login_that_has_it_now(
    login_service: LoginMethods, clock: Clock, end: End
) -> None:
    former = await begin(login_service)
    await end(login_service, former)
    await login_service.close()
    clock.time += REST
    present = await begin(login_service, CHROME)

    with pytest.raises(UnknownLogin):
        await login_service.confirm(former.login.id, ALICE)
    with pytest.raises(UnknownLogin):
        await login_service.deny(former.login.id, ALICE)
    for act in (login_service.redeem, login_service.resume, login_service.cancel):
        with pytest.raises(UnknownLogin):
            await act(former.login.id, former.secret, app="shop")
        with pytest.raises(UnknownLogin):
            await act(present.login.id, former.secret, app="shop")

    login = await login_service.get(present.login.id)
    assert login is not None
    assert (login.state, login.phone) == (State.PENDING, None)
    await redeemed(login_service, present)


async def test_a_photograph_of_a_retired_code_leads_to_its_last_login_and_then_nowhere(
    login_service: LoginMethods, store: StateBackend, clock: Clock
) -> None:
    new_login = await begin(login_service)

    await store.code_leases.withdraw("shop", {0: 0})
    await store.code_leases.offer("shop", [code(0, drawing=1)])
    drawn_anew = await begin(login_service, CHROME)
    assert number_of(drawn_anew) == 0
    assert (await login_service.scan(new_login.login.scene, ALICE)).login.id == new_login.login.id
    await login_service.confirm(new_login.login.id, ALICE)
    await login_service.redeem(new_login.login.id, new_login.secret, app="shop")
    await login_service.close()

    for _ in range(2):
        with pytest.raises(UnknownScene):
            await login_service.scan(new_login.login.scene, BOB)
        clock.time += LIFE + REDEEM_LIFETIME + REST
    assert {(await begin(login_service)).login.scene for _ in range(10)}.isdisjoint(
        {new_login.login.scene}
    )


# --- what is stored


async def test_a_login_that_was_stored_before_there_were_pools_can_still_be_read(
    engines: Engines, clock: Clock
) -> None:
    engines.empty("redis")
    [node] = engines.nodes("redis")
    store = open_state(engines.url("redis"), clock)
    await opened(store)
    login = a_login(clock)
    await store.logins.add(structs.replace(login, lease=CodeLease(3, 1, "3.png")))
    with node.client() as client:
        [key] = client.scan_iter("*:login:*")
        version, _, fields = client.get(key).partition(b" ")
        old = json.loads(fields)
        del old["lease"]
        client.set(key, version + b" " + json.dumps(old).encode(), keepttl=True)

    assert await store.logins.get(LOGIN_ID) == login
    assert await store.logins.by_scene(login.scene) == login
    await store.close()
