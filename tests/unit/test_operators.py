"""Tests of access tokens of operators, of events for them, and of lists of logins."""

from __future__ import annotations

import asyncio

import pytest

from broker.admin.operators import OperatorTokens
from broker.apps.model import ADMIN_APP
from broker.infrastructure.codec import decode, encode
from broker.infrastructure.coordination import Bus, Notice
from broker.infrastructure.observability.feed import LOST, QUEUE_MAX, WATCHERS_MAX, Feed
from broker.login.lister import (
    REQUEST_EVENT,
    RESPONSE_EVENT,
    ListRequest,
    ListResponse,
    LoginLister,
)
from broker.tokens.issuer import TokenClaims, TokenIssuer, VerifiedAccessToken
from tests.support.builders import Clock


def token_of(issuer: TokenIssuer, clock: Clock, subject: str, app: str = ADMIN_APP) -> str:
    claims = TokenClaims(
        id="f.1",
        subject=subject,
        client_id=app,
        issued_at=int(clock()),
        authenticated_at=int(clock()),
        auth_methods=("scan",),
        provider="pretend",
        scope=("openid",),
        sid="s",
    )
    return issuer.issue(claims).access_token


class ActiveSubjects:
    """Knows whose sign-in has not ended."""

    def __init__(self, *subjects: str) -> None:
        self.subjects = {*subjects}

    async def __call__(self, token: VerifiedAccessToken) -> bool:
        return token.subject in self.subjects


async def test_token_of_a_listed_subject_is_accepted(issuer: TokenIssuer, clock: Clock) -> None:
    active = ActiveSubjects("alice", "bob", "mallory")
    tokens = OperatorTokens(issuer=issuer, subjects=["alice", "bob"], is_active=active)

    assert await tokens.find(token_of(issuer, clock, "alice")) == "alice"
    assert await tokens.find(token_of(issuer, clock, "mallory")) is None
    assert await tokens.find(token_of(issuer, clock, "alice", "default")) is None
    active.subjects.discard("alice")
    assert await tokens.find(token_of(issuer, clock, "alice")) is None
    late = token_of(issuer, clock, "bob")
    clock.time += issuer.lifetime
    assert await tokens.find(late) is None


async def test_no_access_token_is_accepted_without_subjects(
    issuer: TokenIssuer, clock: Clock
) -> None:
    tokens = OperatorTokens(issuer=issuer, subjects=[], is_active=ActiveSubjects("alice"))

    assert await tokens.find(token_of(issuer, clock, "alice")) is None


async def test_slow_watcher_loses_the_oldest_events() -> None:
    feed = Feed()
    async with feed.watch() as watcher:
        for number in range(QUEUE_MAX + 1):
            feed.publish("login", "pending", id=str(number))

        events = await watcher.take()

    assert events[0] == LOST
    assert [event.id for event in events[1:]] == [str(QUEUE_MAX)]


async def test_feed_is_full_with_its_most_watchers() -> None:
    feed = Feed()
    watching = [feed.watch() for _ in range(WATCHERS_MAX)]
    for one in watching:
        await one.__aenter__()

    assert feed.is_full
    await watching[0].__aexit__(None, None, None)
    assert not feed.is_full


async def test_watcher_of_a_closed_feed_is_closed() -> None:
    feed = Feed()
    async with feed.watch() as earlier:
        await feed.close()
        async with feed.watch() as later:
            assert (earlier.is_closed, later.is_closed) == (True, True)


class EmptyLobby:
    """A lobby without browsers."""

    def __len__(self) -> int:
        return 0

    def login_ids(self, *, app: str | None, after: str, limit: int) -> list[str]:
        return []


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"id": 1}', '{"request": "x"}', '{"requester": "two"}']
)
@pytest.mark.parametrize("event", [REQUEST_EVENT, RESPONSE_EVENT])
async def test_malformed_notice_is_ignored(bus: Bus, event: str, text: str) -> None:
    lister = LoginLister(lobby=EmptyLobby(), bus=bus, others=list, instance="one")

    handle = lister.notice_handler().handle
    valid = ListRequest(id="valid", requester="two", app=None, after="", limit=9)

    async with bus.listen("two") as answered:
        await handle(Notice(event, text))
        await handle(Notice(REQUEST_EVENT, encode(valid).decode()))
        first = await anext(answered)

    assert decode(first.id)["request"] == "valid"


async def test_answer_of_an_unasked_instance_is_ignored(bus: Bus) -> None:
    def others() -> list[str]:
        return ["two"]

    lister = LoginLister(lobby=EmptyLobby(), bus=bus, others=others, instance="one")
    handle = lister.notice_handler().handle

    async with bus.listen("two") as asked:
        asking = asyncio.create_task(lister.find(app=None, after="", limit=9))
        request = await anext(asked)
        for instance in ("three", "two", "two"):
            answer = ListResponse(
                request=decode(request.id)["id"], instance=instance, total=1, ids=[instance]
            )
            await handle(Notice(RESPONSE_EVENT, encode(answer).decode()))
        found = await asking

    assert (found.ids, found.total, found.missing) == (["two"], 1, [])
