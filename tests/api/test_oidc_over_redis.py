"""Tests of two instances over Redis: what one does with a grant, the other sees at once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest
from yarl import URL

from broker.identity.model import Identity, UserProfile
from tests.support.builders import Clock, StartBroker
from tests.support.logout_receiver import LogoutReceiver, logout_receiver
from tests.support.oidc_app import (
    SETTINGS,
    Answer,
    ProfileDirectory,
    RelyingParty,
    claims_of,
    relying_party,
)
from tests.support.oidc_browser import Page, ScanBrowser
from tests.support.round_trips import counted_round_trips
from tests.support.servers.redis import RedisServer, redis_program, running
from tests.support.waiting import eventually


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with running(redis_program()) as server:
        yield server


@pytest.fixture
async def receiver() -> AsyncIterator[LogoutReceiver]:
    async with logout_receiver() as started:
        yield started


RECORDS = {
    *("login", "request", "code", "family", "families"),
    *("signin", "signins", "signin-cookie", "signin-apps"),
}
"""Kinds of keys that a sign-in and the requests of its app use."""


class Instances(NamedTuple):
    """One app at two instances."""

    one: RelyingParty
    two: RelyingParty


@pytest.fixture
async def instances(
    start_broker: StartBroker, redis: RedisServer, receiver: LogoutReceiver, tmp_path: Path
) -> AsyncIterator[Instances]:
    shared = {
        **SETTINGS,
        "state_url": redis.url,
        "webhooks_private": True,
        "key_file": tmp_path / "keys.json",
    }
    first = await start_broker(ProfileDirectory(), **shared)
    second = await start_broker(ProfileDirectory(), **shared, public_url=first.url)
    async with (
        relying_party(first, backchannel_logout_url=receiver.url, reuse="signin") as one,
        aiohttp.ClientSession(second.url) as http,
    ):
        two = replace(one, url=second.url, http=http)

        async def knows_the_app() -> bool:
            return (await two.post("introspect", token="x")).status == 200

        await eventually(knows_the_app)
        yield Instances(one, two)


async def test_code_raced_at_two_instances_works_once(instances: Instances) -> None:
    """The reuse ends the family of the code, also before the first answer is made."""
    code = await instances.one.code()

    answers = await asyncio.gather(*(app.exchange(code) for app in [*instances] * 50))

    statuses = Counter(answer.status for answer in answers)
    assert statuses.keys() <= {200, 400}
    assert statuses[200] <= 1


async def test_refresh_raced_at_two_instances_has_one_successor(instances: Instances) -> None:
    tokens = await instances.one.tokens()

    answers = await asyncio.gather(
        *(app.refresh(tokens["refresh_token"]) for app in [*instances] * 10)
    )

    successors = {one.body["refresh_token"] for one in answers if one.status == 200}
    assert len(successors) == 1


async def test_revocation_is_seen_by_the_other_instance(instances: Instances) -> None:
    one, two = instances
    tokens = await one.tokens()
    assert (await two.introspect(tokens["access_token"]))["active"] is True

    await two.post("revoke", token=tokens["access_token"])

    assert await one.introspect(tokens["access_token"]) == {"active": False}
    assert (await one.refresh(tokens["refresh_token"])).error == "invalid_grant"
    assert (await one.userinfo(tokens["access_token"])).status == 401


async def test_ended_session_is_announced_once(
    instances: Instances, receiver: LogoutReceiver
) -> None:
    one, two = instances
    first, other = await one.tokens(), await one.tokens()
    for tokens in (first, other):
        refreshed = (await one.refresh(tokens["refresh_token"])).body
        await two.refresh(refreshed["refresh_token"])
        await two.refresh(tokens["refresh_token"])

    await eventually(lambda: len(receiver.tokens) >= 2)

    sids = [claims_of(tokens["id_token"])["sid"] for tokens in (first, other)]
    assert sorted(claims["sid"] for claims in receiver.claims()) == sorted(sids)


class StallingDirectory(ProfileDirectory):
    """A directory during whose next answer the state stalls."""

    stall: Callable[[], None] | None = None

    async def find(self, identity: Identity) -> UserProfile:
        if self.stall is not None:
            self.stall()
            self.stall = None
        return await super().find(identity)


async def answered(request: Callable[[], Awaitable[Answer]]) -> Answer:
    """Repeat a request while the broker is unavailable."""
    answers: list[Answer] = []

    async def is_answered() -> bool:
        answers.append(await request())
        return answers[-1].status != 503

    await eventually(is_answered)
    return answers[-1]


async def test_exchange_during_an_outage_can_be_repeated(
    instances: Instances, redis: RedisServer
) -> None:
    one, two = instances
    await one.tokens()  # loads the scripts
    code = await one.code()

    redis.pause()
    refused = await one.exchange(code)
    redis.resume()
    answer = await answered(lambda: two.exchange(code))
    again = await two.exchange(code)

    assert (refused.status, answer.status, again.error) == (503, 200, "invalid_grant")


async def test_refresh_stored_after_a_long_outage_can_be_repeated(
    start_broker: StartBroker, redis: RedisServer
) -> None:
    directory, clock = StallingDirectory(), Clock(time.time())
    settings = {**SETTINGS, "state_url": redis.url, "refresh_grace": 60}
    broker = await start_broker(directory, clock, **settings)
    async with relying_party(broker) as app:
        tokens = await app.tokens()
        tokens = (await app.refresh(tokens["refresh_token"])).body  # loads the scripts
        family = tokens["refresh_token"].partition(".")[0]
        clock.time += 61  # ends the cached answer of the directory

        directory.stall = redis.pause  # after the family was read
        refused = await app.refresh(tokens["refresh_token"])
        clock.time += 300
        redis.resume()
        with redis.client() as client:
            key = f"scanlogin:{{{family[0]}}}:family:{family}"
            await eventually(lambda: client.get(key).startswith(b"3 "))
        answer = await answered(lambda: app.refresh(tokens["refresh_token"]))

    assert refused.status == 503
    assert answer.status == 200
    assert answer.body["refresh_token"].startswith(f"{family}.3.")


async def round_trips(act: Callable[[], Awaitable[object]]) -> int:
    """Return how often `act` waits for the state; see `counted_round_trips`."""
    with counted_round_trips(RECORDS) as trips:
        await act()
    return trips.count


async def test_token_requests_take_few_round_trips(instances: Instances) -> None:
    """A refresh asks the directory between its two: the family names the user, and a token
    works again after a directory that did not answer."""
    app, _ = instances
    former = await app.tokens()  # loads the scripts
    former = (await app.refresh(former["refresh_token"])).body
    await app.userinfo(former["access_token"])
    code = await app.code()
    tokens = await app.tokens()

    assert await round_trips(lambda: app.exchange(code)) == 2
    assert await round_trips(lambda: app.userinfo(tokens["access_token"])) == 1
    assert await round_trips(lambda: app.introspect(tokens["access_token"])) == 1
    assert await round_trips(lambda: app.refresh(tokens["refresh_token"])) == 2


class SignInCounts(NamedTuple):
    """Round trips of an authorization request, and of the form of its sign-in page."""

    authorize: int
    login: int


@pytest.mark.parametrize("mode", ["query", "form_post"])
async def test_sign_in_takes_few_round_trips(instances: Instances, mode: str) -> None:
    """The form reads request and login, claims both, and then stores sign-in session and code.

    A login that is not claimed must leave no session, because a session may end another one.
    """
    app, _ = instances
    await app.tokens()  # loads the scripts
    url = app.request_url(response_mode=mode)
    pages: list[Page] = []

    async with ScanBrowser(app.url) as browser:

        async def authorize() -> None:
            pages.append(await browser.open(url))

        async def log_in() -> None:
            pages.append(await browser.submit_login(pages[0], fields, follow=False))

        authorized = await round_trips(authorize)
        fields = await browser.confirmed(pages[0], "alice", phone_app=app.id)
        counts = SignInCounts(authorized, await round_trips(log_in))

    assert pages[1].status == {"query": 303, "form_post": 200}[mode]
    assert counts == SignInCounts(authorize=1, login=3)


@pytest.mark.parametrize(("is_pushed", "expected"), [(False, 2), (True, 3)])
async def test_sign_in_without_scan_takes_few_round_trips(
    instances: Instances, is_pushed: bool, expected: int
) -> None:
    """A pushed request is completed first, so that it gives one code."""
    app, _ = instances
    await app.admin.ask("PATCH", f"/apps/{app.id}", {"sso": True})
    url = app.request_url()

    async with ScanBrowser(app.url) as browser:

        async def is_silent() -> bool:
            page = await browser.http.get(url, allow_redirects=False)
            return page.status == 303

        async def sign_in() -> None:
            assert await is_silent()

        await browser.redirect_after_sign_in(url, "alice", phone_app=app.id)
        if is_pushed:
            url = await pushed(browser, url)
        await eventually(is_silent)  # loads the scripts

        assert await round_trips(sign_in) == expected


async def pushed(browser: ScanBrowser, url: str) -> str:
    """Post an authorization request, and return the URL with its `request_uri`."""
    request = URL(url)
    answer = await browser.http.post(
        request.with_query(None), data=request.query, allow_redirects=False
    )
    return answer.headers["Location"]
