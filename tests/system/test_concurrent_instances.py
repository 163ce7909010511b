"""Simultaneous acts at two instances over one Redis: one token, one subject, one notice.

The two share nothing but the Redis: each has connections, an issuer and a flow of
its own.  Some pairs start in the same instant, others a little apart, so that the
second finds the first in every stage of its work.
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
from broker.login.services import create_login_services
from broker.providers.pretend import PretendProvider
from broker.state import open_state
from broker.tokens.issuer import TokenIssuer
from broker.tokens.keys import SigningKeyFile
from tests.support.builders import (
    ALICE,
    BOB,
    FIREFOX,
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

T = TypeVar("T")

REDEEMS = 10_000
CONFIRMS = 500
OVER_HTTP = 200
AT_ONCE = 64
"""Pairs that race side by side."""

APART = (0, 0, 0.001, 0.004, 0.02, 0.03)
"""Seconds that the second of a pair comes later, in turn."""


class Blank(PretendProvider):
    """Draws nothing: a QR code takes longer than the whole rest of a login."""

    async def draw(self, scene: str) -> CodePicture:
        return CodePicture(b"", "image/svg+xml")


class Counted:
    """Logins that count the swaps which came too late: what shows that a pair did race."""

    def __init__(self, logins: LoginStore) -> None:
        self._logins = logins
        self.too_late = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._logins, name)

    async def swap(self, before: Login, after: Login, notice: Notice | None = None) -> SwapResult:
        stored = await self._logins.swap(before, after, notice)
        self.too_late += not stored
        return stored


class Instance(NamedTuple):
    login_service: LoginMethods
    logins: Counted
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
    logins = Counted(store.logins)
    apps, trail = AppRegistry([SHOP]), RecordingAuditLog()
    services = create_login_services(
        logins=logins,
        bus=bus,
        apps=apps,
        audit_log=trail,
        codes=codes_of(store, apps, Blank),
        directory=OpenDirectory(),
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
    )
    login_service = LoginMethods(services)
    yield Instance(login_service, logins, bus, trail)
    await login_service.close()
    await bus.close()
    await store.close()


async def race(number: int, first: Awaitable[Any], second: Awaitable[Any]) -> tuple[Any, Any]:
    """What both came to, each its value or its exception."""

    async def later() -> Any:
        if apart := APART[number % len(APART)]:
            await asyncio.sleep(apart)
        return await second

    return await asyncio.gather(first, later(), return_exceptions=True)


def kinds(ends: Iterable[object]) -> tuple[str, ...]:
    return tuple(sorted(type(end).__name__ for end in ends))


async def side_by_side(count: int, act: Callable[[int], Awaitable[T]]) -> Counter[T]:
    """Do `act(0)`, `act(1)` …, many at a time, and count how they ended."""
    limit = asyncio.Semaphore(AT_ONCE)

    async def limited(number: int) -> T:
        async with limit:
            return await act(number)

    return Counter(await asyncio.gather(*map(limited, range(count))))


@asynccontextmanager
async def heard(by: Instance) -> AsyncIterator[list[Notice]]:
    """The notices that reach the instance while inside the block."""
    notices: list[Notice] = []

    async def listen(incoming: AsyncIterator[Notice]) -> None:
        async for notice in incoming:
            notices.append(notice)

    async with by.bus.listen("one") as incoming:
        task = asyncio.create_task(listen(incoming))
        yield notices
        task.cancel()
        await asyncio.wait([task])


async def grab(login_service: LoginMethods, begun: NewLogin, phone: Phone) -> Login:
    """Scan and confirm, and try to confirm even where somebody else has scanned."""
    with suppress(AlreadyScanned):
        await login_service.scan(begun.login.scene, phone)
    return await login_service.confirm(begun.login.id, phone)


@pytest.mark.timeout(240)  # a quarter of a minute on a machine that has nothing else to do
async def test_simultaneous_redeems_return_the_same_token(pair: Pair) -> None:
    one, two = pair

    async def redeem_twice(number: int) -> tuple[bool, bool]:
        begun = await one.login_service.begin("shop", FIREFOX, has_socket=False)
        login_id, secret = begun.login.id, begun.secret
        await grab(two.login_service, begun, ALICE)
        redeems = [each.login_service.redeem(login_id, secret, app="shop") for each in pair]
        first, second = [claims_of(end) for end in await race(number, *redeems)]
        return (first == second, first["jti"] == login_id)

    ends = await side_by_side(REDEEMS, redeem_twice)

    assert ends == {(True, True): REDEEMS}
    assert one.logins.too_late + two.logins.too_late > REDEEMS / 10
    assert len(one.trail.ends) + len(two.trail.ends) == REDEEMS


async def test_of_two_phones_at_once_one_is_let_in(pair: Pair) -> None:
    one, two = pair

    async def two_phones(number: int) -> tuple[tuple[str, ...], bool]:
        begun = await one.login_service.begin("shop", FIREFOX, has_socket=True)
        ends = await race(
            number, grab(one.login_service, begun, ALICE), grab(two.login_service, begun, BOB)
        )
        [winner] = [end.subject for end in ends if isinstance(end, Login)]
        redeemed = await two.login_service.redeem(begun.login.id, begun.secret, app="shop")
        return kinds(ends), redeemed.login.subject == winner

    async with heard(one) as notices:
        ends = await side_by_side(CONFIRMS, two_phones)
        await eventually(lambda: len(confirms(notices)) >= CONFIRMS)

    assert ends == {(("Login", "WrongPhone"), True): CONFIRMS}
    assert one.logins.too_late + two.logins.too_late > CONFIRMS / 10
    assert set(Counter(notices).values()) == {1}


async def test_a_phone_that_confirms_twice_at_once_is_answered_twice(pair: Pair) -> None:
    one, two = pair

    async def one_phone_twice(number: int) -> tuple[State, str | None, int]:
        begun = await one.login_service.begin("shop", FIREFOX, has_socket=True)
        login_id = begun.login.id
        await one.login_service.scan(begun.login.scene, ALICE)
        ends = await race(number, *(each.login_service.confirm(login_id, ALICE) for each in pair))
        assert ends[0] == ends[1] == await two.login_service.get(login_id)
        return ends[0].state, ends[0].subject, ends[0].version

    async with heard(one) as notices:
        ends = await side_by_side(CONFIRMS, one_phone_twice)
        await eventually(lambda: len(confirms(notices)) >= CONFIRMS)

    assert ends == {(State.CONFIRMED, "pretend:alice", 2): CONFIRMS}
    assert one.logins.too_late + two.logins.too_late > CONFIRMS / 10
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
            _, begun = await post(urls[0], "device_authorization", client)
            await phone.post("scan", {"scene": begun["user_code"]})
            await phone.post("confirm", {"login_id": begun["login_id"]})
            form = {**client, "grant_type": GRANT, "device_code": begun["device_code"]}
            polls = await race(number, *(post(url, "token", form) for url in urls))
            claims = [
                jwt.decode(body["access_token"], options={"verify_signature": False})
                for _, body in polls
            ]
            return tuple(status for status, _ in polls), claims[0] == claims[1]

        ends = await side_by_side(OVER_HTTP, poll_twice)

    assert ends == {((200, 200), True): OVER_HTTP}
