"""Simultaneous acts at two instances over one Redis: one token, one subject, one notice.

The instances share only the Redis. Each has its connections, issuer and login services.
Some pairs start at the same time. In others the second starts later, so that it meets every
stage of the first.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import aiohttp
import jwt
import pytest

from broker.apps.registry import AppRegistry
from broker.bus import open_bus
from broker.directories.open import OpenDirectory
from broker.identity.model import Phone
from broker.identity.ports import CodePicture
from broker.infrastructure.coordination import Bus, Notice
from broker.login.delivery import RedeemedLogin
from broker.login.errors import AlreadyScanned
from broker.login.events import EVENT_BY_STATE
from broker.login.model import Login, State
from broker.login.ports import LoginStore, SwapResult
from broker.login.service import NewLogin
from broker.login.services import LoginDependencies, create_login_services
from broker.providers.pretend import PretendProvider
from broker.state import open_state
from broker.tokens.issuer import TokenIssuer
from broker.tokens.keys import SigningKeyFile
from tests.support.builders import (
    ALICE,
    BOB,
    FIREFOX,
    NO_REQUESTS,
    SHOP,
    LoginMethods,
    RecordingAuditLog,
    StartBroker,
    codes_of,
)
from tests.support.clients import PhoneClient
from tests.support.device_flow import GRANT
from tests.support.servers.redis import RedisServer, redis_program, running
from tests.support.waiting import eventually, opened, opened_bus

pytestmark = pytest.mark.usefixtures("long_redis_limits")

T = TypeVar("T")

REDEEMS = 10_000
CONFIRMS = 500
OVER_HTTP = 200
CONCURRENCY = 64
"""Pairs that run concurrently."""

DELAYS = (0, 0, 0.001, 0.004, 0.02, 0.03)
"""Seconds from the first of a pair to the second; the pairs use them in turn."""


class BlankProvider(PretendProvider):
    """Draws no picture: drawing takes longer than the rest of a login."""

    async def draw(self, scene: str) -> CodePicture:
        return CodePicture(b"", "image/svg+xml")


class ConflictCounter:
    """A login store that counts conflicting swaps, which show that pairs raced."""

    def __init__(self, logins: LoginStore) -> None:
        self._logins = logins
        self.conflicts = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._logins, name)

    async def swap(self, before: Login, after: Login, notice: Notice | None = None) -> SwapResult:
        stored = await self._logins.swap(before, after, notice)
        self.conflicts += not stored
        return stored


class Instance(NamedTuple):
    login_service: LoginMethods
    logins: ConflictCounter
    bus: Bus
    trail: RecordingAuditLog


Pair = tuple[Instance, Instance]


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with running(redis_program()) as server:
        yield server


@pytest.fixture
async def pair(redis: RedisServer, tmp_path: Path) -> AsyncIterator[Pair]:
    keys = SigningKeyFile(tmp_path / "keys.json")
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(instance("one", redis.url, keys))
        two = await stack.enter_async_context(instance("two", redis.url, keys))
        yield one, two


@asynccontextmanager
async def instance(name: str, url: str, keys: SigningKeyFile) -> AsyncIterator[Instance]:
    store, bus = open_state(url), open_bus(url)
    await asyncio.gather(opened(store), opened_bus(bus))
    logins = ConflictCounter(store.logins)
    apps, trail = AppRegistry([SHOP]), RecordingAuditLog()
    services = create_login_services(
        LoginDependencies(
            logins=logins,
            user_codes=store.user_codes,
            bus=bus,
            apps=apps,
            audit_log=trail,
            codes=codes_of(store, apps, BlankProvider),
            directory=OpenDirectory(),
            profiles=OpenDirectory(),
            requests=NO_REQUESTS,
            policy=None,
            issuer=TokenIssuer(
                file=keys,
                algorithm="ES256",
                issuer="https://login.example",
                lifetime=600,
                host_clock=store.clock,
            ),
            clock=store.clock,
            instance=name,
            lifetime=120,
            register_lifetime=600,
            scans_max=3,
        )
    )
    login_service = LoginMethods(services)
    yield Instance(login_service, logins, bus, trail)
    await login_service.close()
    await bus.close()
    await store.close()


async def race(number: int, first: Awaitable[Any], second: Awaitable[Any]) -> tuple[Any, Any]:
    """Return the result of both: a value or an exception."""

    async def later() -> Any:
        if delay := DELAYS[number % len(DELAYS)]:
            await asyncio.sleep(delay)
        return await second

    return await asyncio.gather(first, later(), return_exceptions=True)


def type_names(results: Iterable[object]) -> tuple[str, ...]:
    return tuple(sorted(type(result).__name__ for result in results))


async def count_results(count: int, act: Callable[[int], Awaitable[T]]) -> Counter[T]:
    """Run `act(0)`, `act(1)` …, many concurrently, and count the results."""
    limit = asyncio.Semaphore(CONCURRENCY)

    async def limited(number: int) -> T:
        async with limit:
            return await act(number)

    return Counter(await asyncio.gather(*map(limited, range(count))))


@asynccontextmanager
async def collected_notices(by: Instance) -> AsyncIterator[list[Notice]]:
    """Collect the notices that the instance receives inside the block."""
    notices: list[Notice] = []

    async def listen(incoming: AsyncIterator[Notice]) -> None:
        async for notice in incoming:
            notices.append(notice)

    async with by.bus.listen("one") as incoming, asyncio.TaskGroup() as group:
        task = group.create_task(listen(incoming))
        yield notices
        task.cancel()


async def scan_and_confirm(login_service: LoginMethods, new_login: NewLogin, phone: Phone) -> Login:
    """Scan and confirm. Try to confirm also if another phone has scanned."""
    with suppress(AlreadyScanned):
        await login_service.scan(new_login.login.scene, phone)
    return await login_service.confirm(new_login.login.id, phone)


@pytest.mark.timeout(240)  # takes 15 s on an idle machine
async def test_simultaneous_redeems_return_the_same_token(pair: Pair) -> None:
    one, two = pair

    async def redeem_twice(number: int) -> tuple[bool, bool]:
        new_login = await one.login_service.begin("shop", FIREFOX, has_socket=False)
        login_id, secret = new_login.login.id, new_login.secret
        await scan_and_confirm(two.login_service, new_login, ALICE)
        redeems = [item.login_service.redeem(login_id, secret, app="shop") for item in pair]
        first, second = [claims_of(result) for result in await race(number, *redeems)]
        return (first == second, first["jti"] == login_id)

    results = await count_results(REDEEMS, redeem_twice)

    assert results == {(True, True): REDEEMS}
    assert one.logins.conflicts + two.logins.conflicts > REDEEMS / 10
    assert len(one.trail.ends) + len(two.trail.ends) == REDEEMS


async def test_one_of_two_simultaneous_phones_confirms(pair: Pair) -> None:
    one, two = pair

    async def two_phones(number: int) -> tuple[tuple[str, ...], bool]:
        new_login = await one.login_service.begin("shop", FIREFOX, has_socket=True)
        results = await race(
            number,
            scan_and_confirm(one.login_service, new_login, ALICE),
            scan_and_confirm(two.login_service, new_login, BOB),
        )
        [winner] = [result.subject for result in results if isinstance(result, Login)]
        redeemed = await two.login_service.redeem(new_login.login.id, new_login.secret, app="shop")
        return type_names(results), redeemed.login.subject == winner

    async with collected_notices(one) as notices:
        results = await count_results(CONFIRMS, two_phones)
        await eventually(lambda: len(confirms(notices)) >= CONFIRMS)

    assert results == {(("Login", "WrongPhone"), True): CONFIRMS}
    assert one.logins.conflicts + two.logins.conflicts > CONFIRMS / 10
    assert set(Counter(notices).values()) == {1}


async def test_simultaneous_confirms_of_one_phone_both_succeed(pair: Pair) -> None:
    one, two = pair

    async def one_phone_twice(number: int) -> tuple[State, str | None, int]:
        new_login = await one.login_service.begin("shop", FIREFOX, has_socket=True)
        login_id = new_login.login.id
        await one.login_service.scan(new_login.login.scene, ALICE)
        results = await race(
            number, *(item.login_service.confirm(login_id, ALICE) for item in pair)
        )
        assert results[0] == results[1] == await two.login_service.get(login_id)
        return results[0].state, results[0].subject, results[0].version

    async with collected_notices(one) as notices:
        results = await count_results(CONFIRMS, one_phone_twice)
        await eventually(lambda: len(confirms(notices)) >= CONFIRMS)

    assert results == {(State.CONFIRMED, "pretend:alice", 2): CONFIRMS}
    assert one.logins.conflicts + two.logins.conflicts > CONFIRMS / 10
    assert set(Counter(notices).values()) == {1}


def claims_of(redeemed: RedeemedLogin) -> dict[str, Any]:
    token = redeemed.token.access_token
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


def confirms(notices: Iterable[Notice]) -> list[Notice]:
    return [notice for notice in notices if notice.event == EVENT_BY_STATE[State.CONFIRMED]]


async def test_simultaneous_polls_return_the_same_token(
    redis: RedisServer, start_broker: StartBroker, tmp_path: Path
) -> None:
    shared = {
        "state_url": redis.url,
        "key_file": tmp_path / "keys.json",
        "public_url": "http://127.0.0.1",
        "begins_per_minute": 1_000_000,
    }
    urls = [(await start_broker(**shared)).url for _ in range(2)]
    async with aiohttp.ClientSession() as http, PhoneClient(urls[1]) as phone:

        async def post(url: str, path: str, form: dict[str, str]) -> tuple[int, Any]:
            async with http.post(f"{url}/oauth/{path}", data=form) as response:
                return response.status, await response.json()

        async def poll_twice(number: int) -> tuple[tuple[int, ...], bool]:
            client = {"client_id": "default"}
            _, login = await post(urls[0], "device_authorization", client)
            await phone.post("scan", {"scene": login["scene"]})
            await phone.post("confirm", {"login_id": login["login_id"]})
            form = {**client, "grant_type": GRANT, "device_code": login["device_code"]}
            polls = await race(number, *(post(url, "token", form) for url in urls))
            claims = [
                jwt.decode(body["access_token"], options={"verify_signature": False})
                for _, body in polls
            ]
            return tuple(status for status, _ in polls), claims[0] == claims[1]

        results = await count_results(OVER_HTTP, poll_twice)

    assert results == {((200, 200), True): OVER_HTTP}
