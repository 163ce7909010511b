"""From a command or a phone to the app: the app learns that a person is signed out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from standardwebhooks import Webhook

from broker.infrastructure.runtime.server import Site, serve_sites
from tests.support.builders import StartBroker
from tests.support.clients import PhoneClient
from tests.support.commands import call, run
from tests.support.logout_receiver import LogoutReceiver, logout_receiver, verified_logout
from tests.support.oidc_browser import ScanBrowser, new_person
from tests.support.oidc_site import OIDCSite, a_site, answer_in
from tests.support.waiting import eventually

SCOPES = ["openid", "profile", "offline_access"]


@pytest.fixture
async def receiver() -> AsyncIterator[LogoutReceiver]:
    async with logout_receiver() as started:
        yield started


class EventReceiver:
    """The app's endpoint for events. It records their headers and bodies."""

    def __init__(self) -> None:
        self.events: list[tuple[dict[str, str], bytes]] = []

    async def receive(self, request: web.Request) -> web.Response:
        self.events.append((dict(request.headers), await request.read()))
        return web.Response()

    def verified(self, secret: str) -> list[dict[str, Any]]:
        """Return the events. Raises if a signature is not valid (Standard Webhooks)."""
        return [Webhook(secret).verify(body, headers) for headers, body in self.events]


async def signed_in(site: OIDCSite, browser: ScanBrowser, person: str) -> tuple[str, Any]:
    """Return the id of the login, and the tokens."""
    page = await browser.open(site.url(scope="openid offline_access"))
    fields = await browser.confirmed(page, person)
    answer = await browser.submit_login(page, fields, follow=False)
    tokens = await site.exchange(answer_in(answer.headers["Location"])["code"])
    return fields["login_id"], tokens


async def check_signed_out(site: OIDCSite, receiver: LogoutReceiver, tokens: Any) -> None:
    """Check the logout token that the app gets, and that its refresh token has ended."""
    await eventually(lambda: receiver.tokens)
    [token] = receiver.tokens
    logout = await verified_logout(site.provider.issuer, token, audience=site.id)
    assert (logout["sub"], logout["sid"]) == (tokens["claims"]["sub"], tokens["claims"]["sid"])
    status, refused = await site.refresh(tokens["refresh_token"])
    assert (status, refused["error"]) == (400, "invalid_grant")


async def test_block_by_command_signs_out_of_apps(
    start_broker: StartBroker, receiver: LogoutReceiver, records_file: Path, tmp_path: Path
) -> None:
    variables = {
        "SCAN_LOGIN_DIRECTORY": "sql",
        "SCAN_LOGIN_RECORDS_URL": f"sqlite+aiosqlite:///{records_file}",
    }

    person = new_person()
    for words in (["add", "u-1"], ["link", "u-1", "--openid", person]):
        await asyncio.to_thread(call, tmp_path, "user", *words, **variables)
    async with a_site(
        start_broker,
        tmp_path,
        settings={"directory": "sql"},
        scopes=SCOPES,
        backchannel_logout_url=receiver.url,
    ) as (site, browser):
        _, tokens = await signed_in(site, browser, person)

        blocked = await asyncio.to_thread(run, tmp_path, "user", "block", "u-1", **variables)

        assert blocked.returncode == 0, blocked.stderr

        await check_signed_out(site, receiver, tokens)


async def test_report_by_phone_signs_out_of_apps(
    start_broker: StartBroker, receiver: LogoutReceiver, tmp_path: Path
) -> None:
    events, application = EventReceiver(), web.Application()
    application.router.add_post("/events", events.receive)
    async with (
        serve_sites([Site("app", application, "127.0.0.1", 0, "")]) as urls,
        a_site(
            start_broker,
            tmp_path,
            scopes=SCOPES,
            backchannel_logout_url=receiver.url,
            events_url=f"{urls['app']}/events",
        ) as (site, browser),
    ):
        rotated = await site.provider.admin.ask("POST", f"/apps/{site.id}/rotate-webhook-secret")
        person = new_person()
        login_id, tokens = await signed_in(site, browser, person)

        async with PhoneClient(site.provider.phones, person) as phone:
            reported = await phone.post("report", {"login_id": login_id})

        assert reported.body == {"ended": 1}
        await check_signed_out(site, receiver, tokens)
        await eventually(lambda: events.events)
        [event] = events.verified(rotated.body["webhook_secret"])
        assert event["type"] == "login.reported"
        assert (event["data"]["login_id"], event["data"]["app"]) == (login_id, site.id)
