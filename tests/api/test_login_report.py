"""Reports of logins by the phone: `POST /phone/report`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from standardwebhooks import Webhook

from broker.infrastructure.runtime.server import Site, serve_sites
from tests.support.builders import RunningBroker, StartBroker
from tests.support.clients import Answer, PhoneClient
from tests.support.logins import browser_at, new_login, secret_of
from tests.support.oidc_browser import ScanBrowser, new_person
from tests.support.oidc_site import OIDCSite, a_site, answer_in
from tests.support.waiting import eventually
from tests.support.webhook import SECRET


@pytest.fixture
async def visit(
    start_broker: StartBroker, tmp_path: Path
) -> AsyncIterator[tuple[OIDCSite, ScanBrowser]]:
    async with a_site(
        start_broker, tmp_path, sso=True, scopes=["openid", "profile", "offline_access"]
    ) as visit:
        yield visit


@pytest.fixture
async def broker(start_broker: StartBroker) -> RunningBroker:
    return await start_broker()


async def report(url: str, person: str, login_id: str) -> Answer:
    async with PhoneClient(url, person) as phone:
        return await phone.post("report", {"login_id": login_id})


async def test_report_ends_session_and_families(visit: tuple[OIDCSite, ScanBrowser]) -> None:
    site, browser = visit
    person, url = new_person(), site.url(scope="openid offline_access")
    page = await browser.open(url)
    fields = await browser.confirmed(page, person)
    answer = await browser.submit_login(page, fields, follow=False)
    tokens = await site.exchange(answer_in(answer.headers["Location"])["code"])

    reported = await report(site.provider.phones, person, fields["login_id"])

    assert (reported.status, reported.body) == (200, {"ended": 1})
    status, refused = await site.refresh(tokens["refresh_token"])
    assert (status, refused["error"]) == (400, "invalid_grant")
    silent = await browser.redirect_of(site.url(prompt="none"))
    assert answer_in(silent)["error"] == "login_required"


async def test_report_of_another_person_changes_nothing(
    visit: tuple[OIDCSite, ScanBrowser],
) -> None:
    site, browser = visit
    page = await browser.open(site.url())
    fields = await browser.confirmed(page, new_person())
    await browser.submit_login(page, fields, follow=False)

    reported = await report(site.provider.phones, new_person(), fields["login_id"])

    assert (reported.status, reported.body["error"]) == (400, "invalid_grant")
    silent = await browser.redirect_of(site.url(prompt="none"))
    assert "code" in answer_in(silent)


async def test_reported_login_cannot_be_redeemed(broker: RunningBroker) -> None:
    async with browser_at(broker.url) as browser, PhoneClient(broker.url) as phone:
        begun = await browser.emit("begin", {})
        named = {"login_id": begun["login_id"]}
        await phone.post("scan", {"scene": begun["scene"]})
        await phone.post("confirm", named)

        reported = await phone.post("report", named)
        redeemed = await browser.emit("redeem", secret_of(begun))

    assert reported.body == {"ended": 0}
    assert redeemed["error"] == "invalid_grant"


async def test_default_app_receives_the_signed_event(start_broker: StartBroker) -> None:
    received: list[dict[str, Any]] = []

    async def receive(request: web.Request) -> web.Response:
        received.append(Webhook(SECRET).verify(await request.read(), dict(request.headers)))
        return web.Response()

    site = web.Application()
    site.router.add_post("/events", receive)
    async with serve_sites([Site("site", site, "127.0.0.1", 0, "")]) as urls:
        broker = await start_broker(
            events_url=f"{urls['site']}/events", webhook_secret=SECRET, webhooks_private=True
        )
        async with browser_at(broker.url) as browser, PhoneClient(broker.url) as phone:
            begun = await browser.emit("begin", {})
            await phone.post("scan", {"scene": begun["scene"]})
            await phone.post("confirm", {"login_id": begun["login_id"]})
            await phone.post("report", {"login_id": begun["login_id"]})

        await eventually(lambda: received)

    [event] = received
    assert event["type"] == "login.reported"
    assert event["data"]["login_id"] == begun["login_id"]


async def test_unconfirmed_login_cannot_be_reported(broker: RunningBroker) -> None:
    async with new_login(broker) as login, PhoneClient(broker.url) as phone:
        pending = await phone.post("report", login.named)
        await phone.post("scan", {"scene": login.scene})
        scanned = await phone.post("report", login.named)
        unknown = await phone.post("report", {"login_id": "unknown"})

    assert pending.body == scanned.body == unknown.body
    assert pending.body["error"] == "invalid_grant"


async def test_repeated_report_is_accepted(broker: RunningBroker) -> None:
    async with new_login(broker) as login, PhoneClient(broker.url) as phone:
        await phone.post("scan", {"scene": login.scene})
        await phone.post("confirm", login.named)
        await login.subject()

        answers = [await phone.post("report", login.named) for _ in range(2)]

    assert [answer.body for answer in answers] == [{"ended": 0}, {"ended": 0}]
