"""Tests of events for apps: signature, retries, targets and secrets."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from broker.apps.model import App
from broker.apps.registry import AppRegistry
from broker.infrastructure.coordination import DeferredCall
from broker.infrastructure.outbound.webhook import SiteClient
from broker.infrastructure.retries import CallOutcome, RetryWorker
from broker.login.ports import ReportedLogin
from broker.oidc.app_events import KIND, AppEvents
from broker.state.memory.retry_queue import MemoryRetryQueue
from tests.support.builders import SHOP
from tests.support.webhook import HOST, OTHER_SECRET, SECRET, Names, Served, serving_site

REPORT = ReportedLogin("shop", "", "login-1", "user-7", 1_000_000.5)


class FixedSecrets:
    def __init__(self, secret: str | None) -> None:
        self.secret = secret

    def webhook_secrets(self, app_id: str) -> Sequence[str]:
        return [self.secret] if self.secret else []


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving_site(tmp_path) as server:
        yield server


class Sender:
    """The events of one app, and the calls that are due."""

    def __init__(self, events: AppEvents, store: MemoryRetryQueue) -> None:
        self.events = events
        self._store = store

    async def calls(self) -> list[DeferredCall]:
        return list(await self._store.take_due([KIND], 10))

    async def attempt(self) -> CallOutcome:
        await self.events.login_reported(REPORT)
        [call] = await self.calls()
        return await self.events.attempt(call)


OpenSender = Callable[..., Awaitable[Sender]]


@pytest.fixture
async def sender(server: Served) -> AsyncIterator[OpenSender]:
    clients: list[SiteClient] = []

    async def open_sender(
        app: App | None = None, *, secret: str | None = SECRET, is_private: bool = True
    ) -> Sender:
        client = SiteClient(
            allow_private_address=is_private, tls=server.trust, resolver=Names(site="127.0.0.1")
        )
        await client.open()
        clients.append(client)
        store = MemoryRetryQueue(time.time)
        app = app or replace(SHOP, events_url=f"https://{HOST}:{server.port}/hook")
        events = AppEvents(
            defer=RetryWorker(queue=store, clock=time.time).defer,
            apps=AppRegistry([app]),
            secrets=FixedSecrets(secret),
            client=client,
            clock=time.time,
        )
        return Sender(events, store)

    yield open_sender
    for client in clients:
        await client.close()


async def test_reported_login_is_sent_with_a_signature(server: Served, sender: OpenSender) -> None:
    assert await (await sender()).attempt() is CallOutcome.DELIVERED

    [(_, fields)] = server.site.questions
    assert fields["type"] == "login.reported"
    assert fields["data"] == {
        "login_id": "login-1",
        "subject": "user-7",
        "app": "shop",
        "at": 1_000_000,
    }


async def test_repeated_attempts_have_one_message_id(server: Served, sender: OpenSender) -> None:
    one = await sender()
    await one.events.login_reported(REPORT)
    [call] = await one.calls()

    await one.events.attempt(call)
    await one.events.attempt(call._replace(attempt=2))

    [(first, _), (second, _)] = server.site.questions
    assert first["webhook-id"] == second["webhook-id"]


@pytest.mark.parametrize("status", [301, 400, 404, 410, 500, 503])
async def test_refused_event_is_repeated_later(
    server: Served, sender: OpenSender, status: int
) -> None:
    async def refuse(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, headers={"Location": "/hook"})

    server.site.answer = refuse

    assert await (await sender()).attempt() is CallOutcome.FAILED
    assert len(server.site.questions) == 1


@pytest.mark.parametrize("secret", [None, OTHER_SECRET])
async def test_event_without_the_right_secret_fails(
    server: Served, sender: OpenSender, secret: str | None
) -> None:
    assert await (await sender(secret=secret)).attempt() is CallOutcome.FAILED
    assert server.site.questions == []


async def test_private_address_gets_no_event(server: Served, sender: OpenSender) -> None:
    one = await sender(is_private=False)

    with capture_logs() as logs:
        outcome = await one.attempt()

    assert outcome is CallOutcome.FAILED
    assert server.site.questions == []
    assert "is not a public address" in logs[0]["reason"]


async def test_http_url_gets_no_event(server: Served, sender: OpenSender) -> None:
    app = replace(SHOP, events_url=f"http://{HOST}:{server.port}/hook")
    one = await sender(app, is_private=False)

    with capture_logs() as logs:
        await one.attempt()

    assert logs[0]["reason"] == "the URL does not use https"


async def test_app_without_url_gets_no_call(server: Served, sender: OpenSender) -> None:
    one = await sender(SHOP)

    await one.events.login_reported(REPORT)

    assert await one.calls() == []


async def test_later_app_with_the_same_id_gets_no_event(server: Served, sender: OpenSender) -> None:
    one = await sender()
    payload = '["shop","former","login-1","user-7",1000000.5]'

    assert await one.events.attempt(DeferredCall("c", KIND, "shop", payload)) is CallOutcome.REFUSED
    assert server.site.questions == []


async def test_log_of_failed_event_has_no_secret(server: Served, sender: OpenSender) -> None:
    one = await sender(secret=OTHER_SECRET)

    with capture_logs() as logs:
        await one.attempt()

    assert logs
    assert "whsec" not in str(logs)
    assert "user-7" not in str(logs)
