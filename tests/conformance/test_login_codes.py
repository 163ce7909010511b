"""Tests of pooled codes of logins: leases, returns, and scans of earlier pictures."""

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

LIFETIME, COOLDOWN, REGISTER = 120, 600, 600
"""Seconds for a login, a cooldown and a registration, as in conftest.py."""

CHROME = Browser("198.51.100.9", "Chrome")
POOLED = replace(SHOP, code_source="pool")

MakeLoginService = Callable[..., LoginMethods]


def code(number: int, drawing: int = 0) -> OfferedCode:
    name = f"{number}-{drawing}"
    return OfferedCode(number=number, drawing=drawing, scene=f"scene-{name}", picture=f"{name}.png")


@pytest.fixture
async def store(store: StateBackend) -> StateBackend:
    """The state with a pool of ten codes."""
    await store.code_leases.offer("shop", [code(number) for number in range(10)])
    return store


@pytest.fixture
def login_service(make_login_service: MakeLoginService) -> LoginMethods:
    return make_login_service(apps=[POOLED, OTHER])


def pool_of(
    store: StateBackend, clock: Clock, *, cooldown: float = COOLDOWN, uses: int = 100
) -> CodePool:
    pictures = ObjectPictureStore("file:///nowhere", public_url="https://cdn.example/codes")
    return CodePool(
        leases=store.code_leases,
        pictures=pictures,
        clock=clock,
        cooldown=cooldown,
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


async def test_login_has_the_lowest_free_code_and_picture(
    login_service: LoginMethods,
) -> None:
    new_logins = [await begin(login_service) for _ in range(3)]

    assert [number_of(one) for one in new_logins] == [0, 1, 2]
    assert [one.login.scene for one in new_logins] == ["scene-0-0", "scene-1-0", "scene-2-0"]
    assert new_logins[2].code_url == "https://cdn.example/codes/2-0.png"


async def test_app_with_live_codes_leases_no_code(
    login_service: LoginMethods, store: StateBackend
) -> None:
    await store.code_leases.offer("other", [code(0)])

    new_login = await login_service.begin("other", FIREFOX, has_socket=True)

    assert new_login.login.lease is None
    assert new_login.code_url.startswith("data:image/svg+xml")
    assert (await store.code_leases.level("other")).free == 1


async def test_code_is_drawn_live_if_the_pool_is_empty(login_service: LoginMethods) -> None:
    for _ in range(10):
        await begin(login_service)

    new_login = await begin(login_service)

    assert new_login.login.lease is None
    assert new_login.code_url.startswith("data:image/svg+xml")
    assert (await login_service.scan(new_login.login.scene, ALICE)).login.id == new_login.login.id


# --- returned


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
async def test_code_is_in_cooldown_after_its_login(
    login_service: LoginMethods, store: StateBackend, clock: Clock, end: End
) -> None:
    new_login = await begin(login_service)

    await end(login_service, new_login)
    await login_service.close()

    assert await level(store) == PoolLevel(free=9, leased=0, resting=1)
    assert number_of(await begin(login_service)) == 1
    clock.time += COOLDOWN - 1
    assert number_of(await begin(login_service)) == 2
    clock.time += 1
    assert number_of(await begin(login_service)) == 0


async def test_code_is_leased_until_its_login_ends(
    login_service: LoginMethods, store: StateBackend, clock: Clock
) -> None:
    new_login = await begin(login_service)
    await login_service.scan(new_login.login.scene, ALICE)
    clock.time += LIFETIME - 1
    await login_service.confirm(new_login.login.id, ALICE)

    clock.time += REDEEM_LIFETIME - 1
    await login_service.close()

    assert await level(store) == PoolLevel(free=9, leased=1, resting=0)
    assert await login_service.redeem(new_login.login.id, new_login.secret, app="shop")


async def test_code_of_an_abandoned_login_returns_after_expiry(
    make_login_service: MakeLoginService, store: StateBackend, clock: Clock
) -> None:
    """No instance returns the code in either case."""
    await begin(make_login_service(instance="stopped", apps=[POOLED]))
    other = make_login_service(instance="other", apps=[POOLED])

    clock.time += LIFETIME + REDEEM_LIFETIME
    assert await level(store) == PoolLevel(free=9, leased=0, resting=1)
    clock.time += COOLDOWN - 1
    assert number_of(await begin(other)) == 1
    clock.time += 1
    assert number_of(await begin(other)) == 0


async def test_cooldown_lasts_until_the_login_is_deleted(
    make_login_service: MakeLoginService, store: StateBackend, clock: Clock
) -> None:
    lifetime = 900
    login_service = make_login_service(apps=[replace(POOLED, login_lifetime=lifetime)])
    await denied(login_service, await begin(login_service))
    await login_service.close()

    clock.time += lifetime + LOGIN_RETENTION - 1
    assert number_of(await begin(login_service)) == 1
    clock.time += 1
    assert number_of(await begin(login_service)) == 0


async def test_code_of_unregistered_login_is_unused_until_its_end(
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


async def test_cooldown_is_at_least_the_login_retention(store: StateBackend, clock: Clock) -> None:
    pool = pool_of(store, clock, cooldown=0)
    assert await pool.lease("shop", until=clock() + 10)

    clock.time += 10 + LOGIN_RETENTION - 1
    assert (await level(store)).resting == 1
    clock.time += 1
    assert (await level(store)).resting == 0


async def unavailable(*arguments: object, **more: object) -> None:
    raise Unavailable


async def test_failed_return_raises_no_error(
    store: StateBackend, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = pool_of(store, clock)
    leased = await pool.lease("shop", until=clock() + LIFETIME)
    assert leased is not None
    monkeypatch.setattr(store.code_leases, "return_code", unavailable)

    await pool.return_code("shop", leased.lease, until=clock() + LIFETIME)

    assert (await level(store)).leased == 1


@pytest.mark.parametrize("end", [redeemed, denied, cancelled, abandoned])
async def test_unreturned_code_is_free_after_expiry_and_cooldown(
    login_service: LoginMethods,
    store: StateBackend,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    end: End,
) -> None:
    new_login = await begin(login_service)
    monkeypatch.setattr(store.code_leases, "return_code", unavailable)

    await end(login_service, new_login)
    await login_service.close()

    ended = await login_service.get(new_login.login.id)
    assert ended is not None
    assert ended.state.value == end.__name__.replace("abandoned", "cancelled")
    assert await level(store) == PoolLevel(free=9, leased=1, resting=0)
    clock.time += LIFETIME + REDEEM_LIFETIME + COOLDOWN
    assert await level(store) == PoolLevel(free=10, leased=0, resting=0)


async def test_overused_codes_and_missed_leases_are_reported(
    clock: Clock,
) -> None:
    """The code is leased until the pool maintenance retires it."""
    store = open_state("memory://", clock)
    await store.code_leases.offer("shop", [code(7, drawing=2)])
    pool = pool_of(store, clock, uses=3)
    codes_to_retire = []

    for _ in range(4):
        assert await pool.lease("shop", until=clock() + LIFETIME)
        assert await pool.lease("shop", until=clock() + LIFETIME) is None
        codes_to_retire.append(set(pool.codes_to_retire))
        clock.time += LIFETIME + COOLDOWN

    assert codes_to_retire == [set(), set(), {CodeKey("shop", 7, 2)}, {CodeKey("shop", 7, 2)}]
    assert pool.missed_leases == {"shop": 4}


# --- old pictures


async def test_old_picture_of_a_scanned_code_is_refused(
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
async def test_old_picture_of_a_code_in_cooldown_is_refused(
    login_service: LoginMethods, clock: Clock, end: End
) -> None:
    new_login = await begin(login_service)
    await end(login_service, new_login)
    await login_service.close()

    for _ in range(COOLDOWN + 1):
        with pytest.raises(UnknownScene):
            await login_service.scan(new_login.login.scene, BOB)
        clock.time += 1


async def test_old_picture_of_an_expired_code_is_refused(
    login_service: LoginMethods, clock: Clock
) -> None:
    new_login = await begin(login_service)

    clock.time += LIFETIME
    with pytest.raises(LoginExpired):
        await login_service.scan(new_login.login.scene, BOB)
    clock.time += LOGIN_RETENTION
    for _ in range(REDEEM_LIFETIME + COOLDOWN - LOGIN_RETENTION + 1):
        with pytest.raises(UnknownScene):
            await login_service.scan(new_login.login.scene, BOB)
        clock.time += 1


async def test_old_picture_of_a_reused_code_shows_its_browser(
    login_service: LoginMethods, clock: Clock
) -> None:
    former = await begin(login_service)
    await denied(login_service, former)
    await login_service.close()
    clock.time += COOLDOWN
    current = await begin(login_service, CHROME)
    clock.time += 7

    scanned = (await login_service.scan(former.login.scene, BOB)).login

    assert scanned.scene == former.login.scene
    assert scanned.id == current.login.id != former.login.id
    assert scanned.browser == CHROME
    assert clock() - scanned.began_at == 7


@pytest.mark.parametrize("end", [redeemed, denied, cancelled, abandoned])
async def test_former_login_cannot_affect_the_current_one(
    login_service: LoginMethods, clock: Clock, end: End
) -> None:
    former = await begin(login_service)
    await end(login_service, former)
    await login_service.close()
    clock.time += COOLDOWN
    current = await begin(login_service, CHROME)

    with pytest.raises(UnknownLogin):
        await login_service.confirm(former.login.id, ALICE)
    with pytest.raises(UnknownLogin):
        await login_service.deny(former.login.id, ALICE)
    for act in (login_service.redeem, login_service.resume, login_service.cancel):
        with pytest.raises(UnknownLogin):
            await act(former.login.id, former.secret, app="shop")
        with pytest.raises(UnknownLogin):
            await act(current.login.id, former.secret, app="shop")

    login = await login_service.get(current.login.id)
    assert login is not None
    assert (login.state, login.phone) == (State.PENDING, None)
    await redeemed(login_service, current)


async def test_old_picture_of_a_retired_code_expires(
    login_service: LoginMethods, store: StateBackend, clock: Clock
) -> None:
    new_login = await begin(login_service)

    await store.code_leases.withdraw("shop", {0: 0})
    await store.code_leases.offer("shop", [code(0, drawing=1)])
    redrawn = await begin(login_service, CHROME)
    assert number_of(redrawn) == 0
    assert (await login_service.scan(new_login.login.scene, ALICE)).login.id == new_login.login.id
    await login_service.confirm(new_login.login.id, ALICE)
    await login_service.redeem(new_login.login.id, new_login.secret, app="shop")
    await login_service.close()

    for _ in range(2):
        with pytest.raises(UnknownScene):
            await login_service.scan(new_login.login.scene, BOB)
        clock.time += LIFETIME + REDEEM_LIFETIME + COOLDOWN
    assert {(await begin(login_service)).login.scene for _ in range(10)}.isdisjoint(
        {new_login.login.scene}
    )


# --- stored logins


async def test_login_stored_before_pools_existed_is_readable(
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
