"""Ends of sign-in sessions: their apps are called once, also if an instance dies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from broker.apps.registry import AppRegistry
from broker.infrastructure.coordination import DeferredCall
from broker.infrastructure.observability.feed import NO_FEED, Feed, FeedEvent
from broker.infrastructure.outbound.webhook import SiteClient
from broker.infrastructure.retries import CallOutcome, RetryWorker
from broker.oidc.logouts import KIND, PREPARED_DELAY, BackchannelLogouts
from broker.oidc.model import SignIn
from broker.oidc.ports import SignIns
from broker.oidc.sign_ins import SignInLifetimes, SignInService
from broker.state import StateBackend
from broker.tokens.issuer import TokenIssuer
from tests.support.builders import SHOP, Clock, RecordingTrail
from tests.support.grants import SUBJECT, a_sign_in


class Died(Exception):
    """The end of the process."""


class DyingSignIns:
    """Sign-in sessions of a process that dies before or after `end` is carried out."""

    def __init__(self, store: SignIns, *, ends: bool) -> None:
        self._store = store
        self._ends = ends

    async def of_subject(self, subject: str) -> Sequence[SignIn]:
        return await self._store.of_subject(subject)

    async def end(self, subject: str, sid: str) -> SignIn | None:
        if self._ends:
            await self._store.end(subject, sid)
        raise Died


@pytest.fixture
def logouts(store: StateBackend, clock: Clock, issuer: TokenIssuer) -> BackchannelLogouts:
    app = replace(SHOP, backchannel_logout_url="https://shop.example/logout")
    return BackchannelLogouts(
        calls=RetryWorker(queue=store.retries, clock=clock),
        sign_ins=store.sign_ins,
        apps=AppRegistry([app]),
        issuer=issuer,
        clock=clock,
        client=SiteClient(allow_private_address=False),
    )


def service(
    store: StateBackend,
    clock: Clock,
    logouts: BackchannelLogouts,
    sign_ins: SignIns,
    feed: Feed = NO_FEED,
    trail: RecordingTrail | None = None,
) -> SignInService:
    return SignInService(
        sign_ins=sign_ins,
        grants=store.grants,
        logouts=logouts,
        trail=trail or RecordingTrail(),
        lifetimes=SignInLifetimes(600, 3_600),
        clock=clock,
        feed=feed,
    )


async def saved_sign_in(store: StateBackend, clock: Clock) -> SignIn:
    sign_in = a_sign_in(clock, incarnations={"shop": SHOP.incarnation})
    await store.sign_ins.save(sign_in, clock() + 600)
    return sign_in


async def due(store: StateBackend) -> list[DeferredCall]:
    return list(await store.retries.take_due([KIND], 10))


async def test_ended_sign_in_has_one_call_at_once(
    store: StateBackend, clock: Clock, logouts: BackchannelLogouts
) -> None:
    sign_in = await saved_sign_in(store, clock)

    await service(store, clock, logouts, store.sign_ins).end(SUBJECT, sign_in.sid, offline_too=True)

    [call] = await due(store)
    await store.retries.done(call)
    clock.time += PREPARED_DELAY
    assert await due(store) == []


async def test_end_before_an_instance_dies_has_a_call(
    store: StateBackend, clock: Clock, logouts: BackchannelLogouts
) -> None:
    sign_in = await saved_sign_in(store, clock)
    dying = service(store, clock, logouts, DyingSignIns(store.sign_ins, ends=True))  # type: ignore[arg-type]

    with pytest.raises(Died):
        await dying.end(SUBJECT, sign_in.sid, offline_too=True)

    assert await due(store) == []
    clock.time += PREPARED_DELAY
    [call] = await due(store)
    assert sign_in.sid in call.payload


async def test_sign_in_that_did_not_end_has_no_logout(
    store: StateBackend, clock: Clock, logouts: BackchannelLogouts
) -> None:
    sign_in = await saved_sign_in(store, clock)
    dying = service(store, clock, logouts, DyingSignIns(store.sign_ins, ends=False))  # type: ignore[arg-type]

    with pytest.raises(Died):
        await dying.end(SUBJECT, sign_in.sid, offline_too=True)

    clock.time += PREPARED_DELAY
    [call] = await due(store)
    assert await logouts.attempt(call) is CallOutcome.REFUSED


async def test_feed_has_begin_and_end_of_a_sign_in(
    store: StateBackend, clock: Clock, logouts: BackchannelLogouts
) -> None:
    feed, sign_in = Feed(), a_sign_in(clock, incarnations={"shop": SHOP.incarnation})
    watched = service(store, clock, logouts, store.sign_ins, feed)

    async with feed.watch() as watcher:
        await watched.save(sign_in)
        await watched.end(SUBJECT, sign_in.sid, offline_too=True)
        events = await watcher.take()

    assert events == [
        FeedEvent("signin", state, sign_in.sid, sign_in.app_first) for state in ("began", "ended")
    ]


async def test_audit_entries_of_a_sign_in_name_its_incarnation(
    store: StateBackend, clock: Clock, logouts: BackchannelLogouts
) -> None:
    trail, sign_in = RecordingTrail(), a_sign_in(clock, incarnations={"shop": "first"})
    audited = service(store, clock, logouts, store.sign_ins, trail=trail)

    await audited.save(sign_in)
    await audited.end(SUBJECT, sign_in.sid, offline_too=True)

    assert [(entry.state, entry.app, entry.incarnation) for entry in trail.entries] == [
        ("began", "shop", "first"),
        ("ended", "shop", "first"),
    ]
