"""The broker as an `OpenIDProvider`: its users sign in by scan."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from itertools import count

import aiohttp

from broker.directories.open import OpenDirectory
from broker.identity.model import Identity, UserProfile
from tests.support.app_admin import TOKEN, Admin
from tests.support.builders import RunningBroker, StartBroker
from tests.support.clients import PhoneClient
from tests.support.openid_agent import CALLBACK, SIGNED_OUT, Agent, Answer, Client, Page

SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}
"""Sent by a browser with a form of the page's own origin."""


class FullDirectory(OpenDirectory):
    """A directory that knows every claim of every user."""

    async def find(self, identity: Identity) -> UserProfile:
        return UserProfile(
            subject=f"user-{identity.id}",
            name="Ada Lovelace",
            nickname="Ada",
            preferred_username=identity.id,
            picture="https://directory.example/ada.png",
            locale="en-GB",
            zoneinfo="Europe/London",
            email=f"{identity.id}@directory.example",
            email_verified=True,
            phone_number="+441234567890",
            phone_number_verified=False,
            groups=("engineers",),
        )


class AheadClock:
    """The clock of the state.  ahead: seconds."""

    ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class BrokerProvider:
    """An `OpenIDProvider`: apps are added over the admin port."""

    def __init__(self, broker: RunningBroker, admin: Admin, clock: AheadClock) -> None:
        self.issuer = broker.url
        self.broker = broker
        self._admin, self._clock = admin, clock
        self._numbers = count(1)

    async def register(self, **metadata: object) -> Client:
        app = f"client-{next(self._numbers)}"
        fields = {
            "id": app,
            "name": "Relying party",
            "phone_app": "default",
            "redirect_urls": [CALLBACK],
            "post_logout_urls": [SIGNED_OUT],
            "scopes": ["openid", "profile", "email", "phone", "groups", "offline_access"],
            "sso": True,
        }
        if "backchannel_logout_uri" in metadata:
            fields["backchannel_logout_url"] = metadata["backchannel_logout_uri"]
        added = await self._admin.ask("POST", "/apps", fields)
        assert added.status == 201, added.body
        rotated = await self._admin.ask("POST", f"/apps/{app}/rotate-secret")
        return Client(app, rotated.body["api_secret"])

    async def sign_in(self, agent: Agent, page: Page, person: str) -> Answer:
        assert page.status == 200, page.text
        widget = _widget_of(page)
        login_id, secret = await self._confirmed(widget, person)
        form = {"request": widget["request"], "login_id": login_id, "secret": secret}
        return await agent.open(f"{self.issuer}/oauth/login", form, self._form_headers())

    async def sign_out(self, agent: Agent, page: Page) -> Answer:
        action, fields = page.form()
        return await agent.open(action, fields, self._form_headers())

    async def set_clock_ahead(self, seconds: float) -> None:
        self._clock.ahead = seconds

    def _form_headers(self) -> dict[str, str]:
        return {**SAME_ORIGIN, "Origin": self.issuer}

    async def _confirmed(self, widget: dict[str, str], person: str) -> tuple[str, str]:
        """Begin a login as the widget does, and confirm it. Returns its id and secret."""
        begin = {"client_id": widget["app"], "request": widget["request"]}
        async with (
            aiohttp.ClientSession(self.issuer, raise_for_status=True) as http,
            http.post("/oauth/device_authorization", data=begin) as response,
        ):
            login = await response.json()
        login_id, _, secret = login["device_code"].partition(".")
        async with PhoneClient(self.issuer, person) as phone:
            await phone.post("scan", {"scene": login["user_code"]})
            confirmed = await phone.post("confirm", {"login_id": login_id})
        assert confirmed.status == 200, confirmed.body
        return login_id, secret


class _Widgets(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "scan-login":
            self.found = {name: value or "" for name, value in attrs}


def _widget_of(page: Page) -> dict[str, str]:
    """Return the attributes of the page's widget."""
    widgets = _Widgets()
    widgets.feed(page.text)
    assert widgets.found.get("mode") == "form", page.text
    return widgets.found


@asynccontextmanager
async def running_broker_provider(start_broker: StartBroker) -> AsyncIterator[BrokerProvider]:
    clock = AheadClock()
    broker = await start_broker(
        directory=FullDirectory(), clock=clock, admin_token=TOKEN, webhooks_private=True
    )
    admin = Admin(broker.admin)
    yield BrokerProvider(broker, admin, clock)
    await admin.http.close()
