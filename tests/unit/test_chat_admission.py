"""Tests of admission to rooms by the app field `rooms` and by a site's webhook."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from aiohttp import web

from broker.chat.admission import ANSWER_TTL, Admission, Applicant
from broker.chat.errors import AdmissionUnavailable, ChatDenied, ChatDisabled, UnknownRoom
from broker.chat.rules import MODERATE, SAY
from broker.errors import BrokerError
from broker.infrastructure.outbound.webhook import SiteClient
from tests.support.builders import SHOP, Clock
from tests.support.chat import admitting
from tests.support.webhook import SECRET

ALICE, BOB = Applicant("alice", "openid-1"), Applicant("bob", None)


class FixedSecrets:
    def __init__(self, *secrets: str) -> None:
        self._secrets = secrets

    def webhook_secrets(self, app_id: str) -> Sequence[str]:
        return self._secrets


@asynccontextmanager
async def admission(
    clock: Clock, *, secrets: Sequence[str] = (SECRET,), private: bool = True
) -> AsyncIterator[Admission]:
    client = SiteClient(allow_private_address=private)
    await client.open()
    try:
        yield Admission(
            secrets=FixedSecrets(*secrets), client=client, clock=time.time, monotonic=clock
        )
    finally:
        await client.close()


async def test_app_without_rooms_admits_no_person(clock: Clock) -> None:
    async with admission(clock) as admits:
        with pytest.raises(ChatDisabled):
            await admits.admit(SHOP, "lounge", ALICE)


async def test_open_app_admits_to_say_and_moderators_to_moderate(clock: Clock) -> None:
    app = replace(SHOP, rooms="open", moderators=("alice",))
    async with admission(clock) as admits:
        assert await admits.admit(app, "lounge", ALICE) == {SAY, MODERATE}
        assert await admits.admit(app, "lounge", BOB) == {SAY}


ANSWERS: list[tuple[int, object, type[BrokerError]]] = [
    (403, {}, ChatDenied),
    (404, {}, UnknownRoom),
    (403, "no", AdmissionUnavailable),
    (404, [], AdmissionUnavailable),
    (200, {}, AdmissionUnavailable),
    (204, {}, AdmissionUnavailable),
    (503, {}, AdmissionUnavailable),
]


@pytest.mark.parametrize(("status", "body", "error"), ANSWERS)
async def test_answer_of_the_site_refuses(
    clock: Clock, status: int, body: object, error: type[BrokerError]
) -> None:
    async with admitting(status, body) as (_, settings), admission(clock) as admits:
        with pytest.raises(error):
            await admits.admit(replace(SHOP, rooms=settings["chat_rooms"]), "lounge", ALICE)


async def test_answer_is_used_for_a_minute_and_one_person(clock: Clock) -> None:
    async with admitting(200, {"may": []}) as (site, settings), admission(clock) as admits:
        app = replace(SHOP, rooms=settings["chat_rooms"])
        for _ in range(2):
            assert await admits.admit(app, "lounge", ALICE) == frozenset()
        await admits.admit(app, "lounge", BOB)
        await admits.admit(app, "garden", ALICE)
        assert len(site.questions) == 3

        clock.time += ANSWER_TTL
        await admits.admit(app, "lounge", ALICE)

    assert len(site.questions) == 4


async def test_refusal_is_used_again_and_failure_is_not(clock: Clock) -> None:
    async with admitting(403) as (site, settings), admission(clock) as admits:
        app = replace(SHOP, rooms=settings["chat_rooms"])
        for _ in range(2):
            with pytest.raises(ChatDenied):
                await admits.admit(app, "lounge", ALICE)
        assert len(site.questions) == 1

    async with admitting(500) as (site, settings), admission(clock) as admits:
        app = replace(SHOP, rooms=settings["chat_rooms"])
        for _ in range(2):
            with pytest.raises(AdmissionUnavailable):
                await admits.admit(app, "lounge", ALICE)
        assert len(site.questions) == 2


async def test_concurrent_joins_of_a_person_send_one_request(clock: Clock) -> None:
    async with admitting(200, {"may": [SAY]}) as (site, settings), admission(clock) as admits:
        app = replace(SHOP, rooms=settings["chat_rooms"])

        await asyncio.gather(*(admits.admit(app, "lounge", ALICE) for _ in range(10)))

    assert len(site.questions) == 1


async def test_request_names_app_room_and_person(clock: Clock) -> None:
    async with admitting(200, {"may": []}) as (site, settings), admission(clock) as admits:
        await admits.admit(replace(SHOP, rooms=settings["chat_rooms"]), "lounge", ALICE)

    [(_, question)] = site.questions
    person = {"subject": "alice", "openid": "openid-1"}
    assert question["data"] == {"app": "shop", "room": "lounge", **person}


async def test_app_without_webhook_secret_sends_no_request(clock: Clock) -> None:
    async with admitting() as (site, settings), admission(clock, secrets=()) as admits:
        with pytest.raises(AdmissionUnavailable):
            await admits.admit(replace(SHOP, rooms=settings["chat_rooms"]), "lounge", ALICE)

    assert site.questions == []


async def test_private_address_gets_no_request(clock: Clock) -> None:
    async with admitting() as (site, settings), admission(clock, private=False) as admits:
        with pytest.raises(AdmissionUnavailable):
            await admits.admit(replace(SHOP, rooms=settings["chat_rooms"]), "lounge", ALICE)

    assert site.questions == []


async def test_site_without_answer_does_not_delay_other_apps(clock: Clock) -> None:
    held = asyncio.Event()

    async def hold(request: web.Request) -> web.StreamResponse:
        await held.wait()
        return web.json_response({"may": []})

    async with (
        admitting() as (slow, slow_settings),
        admitting(200, {"may": [SAY]}) as (_, settings),
        admission(clock) as admits,
    ):
        slow.answer = hold
        waiting = [
            asyncio.create_task(
                admits.admit(
                    replace(SHOP, id="slow", rooms=slow_settings["chat_rooms"]),
                    "lounge",
                    Applicant(f"person-{number}", None),
                )
            )
            for number in range(40)
        ]

        app = replace(SHOP, rooms=settings["chat_rooms"])
        assert await admits.admit(app, "lounge", ALICE) == {SAY}

        held.set()
        await asyncio.wait(waiting)
