"""Sign-ins with OpenID Connect during faults: none is lost, and none is granted twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import aiohttp
import pytest

from tests.chaos.sign_in_steps import Steps, add_app
from tests.chaos.world import World, brokers_with_links
from tests.support.oidc_browser import new_person
from tests.support.servers.redis import RedisServer

T = TypeVar("T")

SIGN_INS = 10


class Setup(NamedTuple):
    world: World
    redis: RedisServer
    http: aiohttp.ClientSession
    secret: str

    @property
    def urls(self) -> tuple[str, str]:
        first, second = self.world.instances
        return first.url, second.url

    async def confirmed(self) -> list[Steps]:
        """Return sign-ins that the phone has confirmed, at the first instance."""
        steps = [Steps(self.http, self.secret, new_person()) for _ in range(SIGN_INS)]
        await each(steps, lambda one: one.begin(self.urls[0]))
        await each(steps, lambda one: one.confirm(self.urls[1]))
        return steps


async def each(steps: list[Steps], act: Callable[[Steps], Awaitable[T]]) -> list[T]:
    return list(await asyncio.gather(*map(act, steps)))


@pytest.fixture
async def setup(redis: RedisServer, tmp_path: Path) -> AsyncIterator[Setup]:
    secret = await asyncio.to_thread(add_app, tmp_path)
    async with (
        brokers_with_links(redis, tmp_path) as world,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http,
    ):
        yield Setup(world, redis, http, secret)


async def check_one_grant_each(setup: Setup, steps: list[Steps], codes: list[str]) -> None:
    """Exchange each code twice: the first exchange yields tokens, the second nothing."""
    assert len(set(codes)) == len(steps)
    pairs = list(zip(steps, codes, strict=True))
    answers = [await one.exchange(setup.urls[1], code) for one, code in pairs]
    again = [await one.exchange(setup.urls[1], code) for one, code in pairs]
    assert all("id_token" in answer for answer in answers)
    assert {answer.get("error") for answer in again} == {"invalid_grant"}


async def test_kill_between_confirm_and_form_loses_nothing(setup: Setup) -> None:
    steps = await setup.confirmed()

    setup.world.instances[0].kill()

    codes = await each(steps, lambda one: one.submit(setup.urls[1]))
    await check_one_grant_each(setup, steps, codes)


async def test_kill_between_code_and_token_loses_nothing(setup: Setup) -> None:
    steps = await setup.confirmed()
    codes = await each(steps, lambda one: one.submit(setup.urls[0]))

    setup.world.instances[0].kill()

    await check_one_grant_each(setup, steps, codes)


async def test_form_whose_answer_is_lost_yields_one_grant(setup: Setup) -> None:
    """The instance dies after Redis has stored the claim, and the browser posts again."""
    steps = await setup.confirmed()
    victim = setup.world.instances[0]
    victim.link.delay = 0.3

    lost = [asyncio.create_task(one.submit_once(setup.urls[0])) for one in steps]
    await asyncio.sleep(0.4)
    victim.kill()
    before = [code for code in await asyncio.gather(*lost) if code is not None]

    codes = await each(steps, lambda one: one.submit(setup.urls[1]))
    assert set(before) <= set(codes)
    await check_one_grant_each(setup, steps, codes)


async def test_paused_redis_loses_no_confirmed_sign_in(setup: Setup) -> None:
    steps = await setup.confirmed()

    setup.redis.pause()
    posts = asyncio.create_task(
        each(steps, lambda one: one.submit(setup.urls[steps.index(one) % 2]))
    )
    await asyncio.sleep(10)
    assert not posts.done()
    setup.redis.resume()

    await check_one_grant_each(setup, steps, await posts)


async def test_restarted_redis_loses_no_confirmed_sign_in(setup: Setup) -> None:
    steps = await setup.confirmed()

    await asyncio.to_thread(setup.redis.stop)
    posts = asyncio.create_task(
        each(steps, lambda one: one.submit(setup.urls[steps.index(one) % 2]))
    )
    await asyncio.sleep(1)
    assert not posts.done()
    await asyncio.to_thread(setup.redis.start)

    await check_one_grant_each(setup, steps, await posts)
