"""Many uses of one refresh token at the same time, at two brokers, for many families."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import aiohttp
import pytest

from tests.chaos.sign_in_steps import Steps, add_app, repeated
from tests.chaos.world import brokers_with_links
from tests.support.oidc_app import claims_of
from tests.support.oidc_browser import new_person
from tests.support.servers.redis import redis_program, running

FAMILIES = 1_000

USES = 20
"""Simultaneous uses of one refresh token, half of them at each broker."""

AT_ONCE = 10
"""Families that are used at the same time."""

VARIABLES = {"SCAN_LOGIN_REFRESH_GRACE": "300"}
"""On a busy machine, the uses of one token may take longer than the usual 10 seconds."""

T = TypeVar("T")
U = TypeVar("U")

Answer = dict[str, Any]


class Brokers(NamedTuple):
    """Two brokers.  secret: of their app."""

    urls: tuple[str, str]
    http: aiohttp.ClientSession
    secret: str

    async def signed_in(self, _: int) -> Family:
        """Sign a new person in, each step at another broker than the previous one."""
        first, second = self.urls
        steps = Steps(self.http, self.secret)
        await repeated(lambda: steps.begin(first))
        await steps.confirm(second, new_person())
        code = await repeated(lambda: steps.submit(first))
        return Family(self, steps, await repeated(lambda: steps.exchange(second, code)))


class Family(NamedTuple):
    brokers: Brokers
    steps: Steps
    first: Answer

    async def used_at_once(self) -> list[Answer]:
        """Use the first refresh token `USES` times at the same time."""
        urls = itertools.islice(itertools.cycle(self.brokers.urls), USES)
        return await asyncio.gather(*(self.refresh(url, self.first) for url in urls))

    async def refresh(self, url: str, tokens: Answer) -> Answer:
        return await repeated(lambda: self.steps.refresh(url, tokens["refresh_token"]))


class Chain(NamedTuple):
    """A family after the uses.

    uses: the answers to the simultaneous uses of the first token, and to one that follows them.
    last: that to a use of the successor. reuse: that to a use of the first token after that.
    after: that to a use of the last token.
    """

    family: Family
    uses: Sequence[Answer]
    last: Answer
    reuse: Answer
    after: Answer

    @property
    def successors(self) -> set[str]:
        return {str(answer.get("refresh_token")) for answer in self.uses}

    @property
    def tokens(self) -> list[Answer]:
        return [self.family.first, *self.uses, self.last]


async def raced(family: Family) -> Chain:
    one, two = family.brokers.urls
    uses = [*await family.used_at_once(), await family.refresh(two, family.first)]
    last = await family.refresh(one, uses[0])
    reuse = await family.refresh(two, family.first)
    return Chain(family, uses, last, reuse, await family.refresh(one, last))


async def each(act: Callable[[T], Awaitable[U]], values: Iterable[T]) -> list[U]:
    """Return the results of all, of which `AT_ONCE` run at the same time."""
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(value: T) -> U:
        async with limit:
            return await act(value)

    return list(await asyncio.gather(*map(one, values)))


@pytest.fixture
async def brokers(tmp_path: Path) -> AsyncIterator[Brokers]:
    secret = await asyncio.to_thread(add_app, tmp_path)
    with running(redis_program()) as redis:
        async with (
            brokers_with_links(redis, tmp_path, variables=VARIABLES) as world,
            aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(), connector=aiohttp.TCPConnector(limit=0)
            ) as http,
        ):
            first, second = world.instances
            yield Brokers((first.url, second.url), http, secret)


@pytest.mark.chaos_long
@pytest.mark.timeout(1_800)
async def test_raced_refreshes_give_one_chain(
    brokers: Brokers, capsys: pytest.CaptureFixture[str]
) -> None:
    families = await each(brokers.signed_in, range(FAMILIES))
    began_at = time.monotonic()
    chains = await each(raced, families)
    seconds = time.monotonic() - began_at

    ids = [claims_of(one["access_token"])["jti"] for chain in chains for one in chain.tokens]
    with capsys.disabled():
        print(
            f"\n{FAMILIES} families, {USES} uses each: "
            f"{sum(len(chain.successors) for chain in chains)} successors, "
            f"{len(set(ids))} access tokens of {len(ids)} answers, "
            f"{sum(chain.reuse.get('error') == 'invalid_grant' for chain in chains)} reuses "
            f"refused, {seconds:.0f} s"
        )
    assert {len(chain.successors) for chain in chains} == {1}
    assert {numbers(chain) for chain in chains} == {(1, 2, 3)}
    assert len(set(ids)) == len(ids)
    refusals = {one.get("error") for chain in chains for one in (chain.reuse, chain.after)}
    assert refusals == {"invalid_grant"}


def numbers(chain: Chain) -> tuple[int, ...]:
    """Return the numbers of the tokens of a family, from the first to the last."""
    texts = chain.family.first["refresh_token"], *chain.successors, chain.last["refresh_token"]
    assert len({text.split(".")[0] for text in texts}) == 1
    return tuple(int(text.split(".")[1]) for text in texts)
