"""Sign-ins with OpenID Connect during faults: none is lost, and none is granted twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import aiohttp
import pytest

from tests.chaos.ledger import Ledger, Row
from tests.chaos.load import Fault
from tests.chaos.monitor import monitoring
from tests.chaos.probe import LivenessProbe, probing
from tests.chaos.sign_in_load import open_sign_ins
from tests.chaos.sign_in_steps import Steps, Unanswered, add_app, repeated
from tests.chaos.world import Instance, World, brokers_with_links
from tests.support.oidc_browser import new_person
from tests.support.servers.redis import RedisServer, redis_program, running
from tests.support.waiting import eventually

T = TypeVar("T")

long = pytest.mark.chaos_long

SIGN_INS = 10

RATE = 3.0
"""Sign-ins per second under load."""

ANSWER_DELAY = 0.3
"""Delay of each answer of Redis in seconds: enough to kill the waiting broker."""

REDEEMED = (rb"\"redeemed\"",)
"""Content of the login that a form writes, as MONITOR prints it."""

PAUSE = 10.0
"""Seconds for which a process does not run."""


class Setup(NamedTuple):
    """Two brokers, and the secret of their app."""

    world: World
    redis: RedisServer
    http: aiohttp.ClientSession
    secret: str
    probes: Sequence[LivenessProbe]
    rows: list[Row]
    ledger: Ledger

    @property
    def urls(self) -> tuple[str, str]:
        first, second = self.world.instances
        return first.url, second.url

    async def confirmed(self) -> list[Steps]:
        """Return sign-ins that the phone has confirmed, at the second instance."""
        steps = [Steps(self.http, self.secret) for _ in range(SIGN_INS)]
        await each(steps, lambda one: one.begin(self.urls[0]))
        await each(steps, lambda one: one.confirm(self.urls[1], new_person()))
        return steps

    async def submitted(self, steps: Sequence[Steps], *urls: str) -> list[str]:
        """Submit the forms at the given instances in turn, and return the codes."""
        submits = [
            repeated(partial(one.submit, urls[number % len(urls)]))
            for number, one in enumerate(steps)
        ]
        return list(await asyncio.gather(*submits))

    @asynccontextmanager
    async def fault(self, name: str, steps: Sequence[Steps]) -> AsyncIterator[list[str]]:
        """The block is the fault, and adds the codes of the sign-ins to the yielded list.

        Each code is then exchanged twice: the first time yields tokens, the second time nothing.
        """
        ledger = self.ledger
        codes: list[str] = []
        for one in steps:
            assert one.code is not None
            ledger.add_login(one.code.login_id)
            ledger.set_confirmed(one.code.login_id)
        ledger.fault_begins()
        yield codes
        ledger.fault_ends()
        assert len(set(codes)) == len(steps)
        answers = [await self._exchange(ledger, *pair) for pair in zip(steps, codes, strict=True)]
        again = [await self._exchange(ledger, *pair) for pair in zip(steps, codes, strict=True)]
        row = ledger.row(f"sign-ins: {name}", max(probe.slowest for probe in self.probes))
        self.rows.append(row)
        assert (row.lost, row.double) == (0, 0), answers
        assert set(again) == {"invalid_grant"}

    async def _exchange(self, ledger: Ledger, one: Steps, code: str) -> str:
        """Exchange a code, and return the error."""
        assert one.code is not None
        answer = await repeated(lambda: one.exchange(self.urls[1], code))
        if "id_token" in answer:
            ledger.add_token(one.code.login_id, answer["access_token"])
        return str(answer.get("error", ""))


async def each(steps: list[Steps], act: Callable[[Steps], Awaitable[T]]) -> list[T]:
    return list(await asyncio.gather(*map(act, steps)))


@asynccontextmanager
async def two_brokers(
    redis: RedisServer, folder: Path, rows: list[Row], ledger: Ledger
) -> AsyncIterator[Setup]:
    secret = await asyncio.to_thread(add_app, folder)
    async with (
        brokers_with_links(redis, folder) as world,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http,
    ):
        with probing(world.instances) as probes:
            yield Setup(world, redis, http, secret, probes, rows, ledger)


@pytest.fixture
async def setup(
    redis: RedisServer, tmp_path: Path, rows: list[Row], ledger: Ledger
) -> AsyncIterator[Setup]:
    async with two_brokers(redis, tmp_path, rows, ledger) as setup:
        yield setup


@pytest.fixture
async def empty_setup(tmp_path: Path, rows: list[Row], ledger: Ledger) -> AsyncIterator[Setup]:
    """Brokers over a Redis without persistence."""
    with running(redis_program()) as redis:
        async with two_brokers(redis, tmp_path, rows, ledger) as setup:
            yield setup


async def test_kill_between_confirm_and_form_loses_nothing(setup: Setup) -> None:
    steps = await setup.confirmed()

    async with setup.fault("`kill -9` between confirm and form", steps) as codes:
        setup.world.instances[0].kill()
        codes += await setup.submitted(steps, setup.urls[1])


async def test_kill_between_code_and_token_loses_nothing(setup: Setup) -> None:
    steps = await setup.confirmed()

    async with setup.fault("`kill -9` between code and token", steps) as codes:
        codes += await setup.submitted(steps, setup.urls[0])
        setup.world.instances[0].kill()


async def test_form_whose_answer_is_lost_yields_one_grant(setup: Setup) -> None:
    """The instance dies after Redis has stored the first form, and the browsers post again."""
    steps = await setup.confirmed()
    victim = setup.world.instances[0]
    victim.link.delay = ANSWER_DELAY

    async with setup.fault("`kill -9` after the form is stored", steps) as codes:
        async with monitoring(setup.redis) as monitor:
            lost = [asyncio.create_task(one.submit(victim.url)) for one in steps]
            await monitor.write(REDEEMED, victim.link)
            victim.kill()
        before = await asyncio.gather(*lost, return_exceptions=True)
        codes += await setup.submitted(steps, setup.urls[1])

    answered = {one for one in before if not isinstance(one, Unanswered)}
    assert len(answered) < len(steps)
    assert answered <= set(codes)


async def test_exchange_whose_answer_is_lost_gives_no_second_grant(setup: Setup) -> None:
    """The instance dies after Redis has stored the tokens of a code. The person begins again."""
    first, second, *_ = steps = await setup.confirmed()
    [used, code, *_] = await setup.submitted(steps, setup.urls[0])
    await first.exchange(setup.urls[0], used)  # loads the scripts
    victim = setup.world.instances[0]
    victim.link.delay = ANSWER_DELAY

    async with monitoring(setup.redis) as monitor:
        lost = asyncio.create_task(second.exchange(victim.url, code))
        await monitor.write((b":family:", b":code:"), victim.link)
        victim.kill()

    with pytest.raises(Unanswered):
        await lost
    refused = await second.exchange(setup.urls[1], code)
    assert refused["error"] == "invalid_grant"
    await sign_in_at(setup, setup.urls[1])


@long
async def test_paused_redis_loses_no_confirmed_sign_in(setup: Setup) -> None:
    steps = await setup.confirmed()

    async with setup.fault("Redis stopped for 10 s, between confirm and form", steps) as codes:
        setup.redis.pause()
        posts = asyncio.create_task(setup.submitted(steps, *setup.urls))
        await asyncio.sleep(PAUSE)
        assert not posts.done()
        setup.redis.resume()
        codes += await posts


async def test_restarted_redis_loses_no_confirmed_sign_in(setup: Setup) -> None:
    steps = await setup.confirmed()

    async with setup.fault("Redis restarted with its data, before the form", steps) as codes:
        await asyncio.to_thread(setup.redis.stop)
        posts = asyncio.create_task(setup.submitted(steps, *setup.urls))
        await eventually(lambda: all(one.unanswered for one in steps))
        assert not posts.done()
        await asyncio.to_thread(setup.redis.start)
        codes += await posts


async def test_empty_redis_lets_people_sign_in_again(empty_setup: Setup, fault: Fault) -> None:
    """Everything in Redis is lost. People begin again by themselves, at both instances."""
    setup = empty_setup
    load = partial(open_sign_ins, secret=setup.secret)

    async with fault(
        "sign-ins: Redis restarted empty", setup.world, rate=RATE, loses=True, open_load=load
    ) as sign_ins:
        await asyncio.to_thread(setup.redis.stop)
        await asyncio.to_thread(setup.redis.start)

    assert set(sign_ins.signed_out) <= {"invalid_grant"}
    for url in setup.urls:
        await sign_in_at(setup, url)


async def sign_in_at(setup: Setup, url: str) -> None:
    """Sign in with one instance only."""
    one = Steps(setup.http, setup.secret)
    await one.begin(url)
    await one.confirm(url, new_person())
    tokens = await one.exchange(url, await one.submit(url))
    assert "id_token" in await one.refresh(url, tokens["refresh_token"])


async def drain(setup: Setup) -> None:
    await setup.world.instances[0].stop()
    await setup.world.instances[0].start()


async def pause_instance(setup: Setup) -> None:
    instance: Instance = setup.world.instances[0]
    instance.pause()
    await asyncio.sleep(PAUSE)
    instance.resume()


async def pause_redis(setup: Setup) -> None:
    setup.redis.pause()
    await asyncio.sleep(PAUSE)
    setup.redis.resume()


async def kill_instance(setup: Setup) -> None:
    setup.world.instances[0].kill()
    await asyncio.sleep(2)
    await setup.world.instances[0].start()


async def restart_redis(setup: Setup) -> None:
    await asyncio.to_thread(setup.redis.stop)
    await asyncio.to_thread(setup.redis.start)


@pytest.mark.parametrize(
    ("name", "act"),
    [
        pytest.param("an instance drained", drain, id="drain"),
        pytest.param("`kill -9` of an instance", kill_instance, id="kill", marks=long),
        pytest.param("an instance stopped for 10 s", pause_instance, id="instance", marks=long),
        pytest.param("Redis stopped for 10 s", pause_redis, id="redis", marks=long),
        pytest.param("Redis restarted with its data", restart_redis, id="restart", marks=long),
    ],
)
async def test_sign_ins_survive_a_fault_under_load(
    setup: Setup, fault: Fault, name: str, act: Callable[[Setup], Awaitable[None]]
) -> None:
    load = partial(open_sign_ins, secret=setup.secret)
    stops = act is pause_instance

    async with fault(
        f"sign-ins: {name}", setup.world, rate=RATE, stops=stops, open_load=load
    ) as sign_ins:
        await act(setup)

    assert sign_ins.signed_out == []
