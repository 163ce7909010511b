"""The broker as an `OpenIDProvider`: its users sign in by scan."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

from broker.directories.open import OpenDirectory
from broker.identity.model import Identity, UserProfile
from tests.support.app_admin import TOKEN, Admin
from tests.support.builders import RunningBroker, StartBroker
from tests.support.oidc_browser import FORM_HEADERS, ScanBrowser
from tests.support.openid_agent import CALLBACK, SIGNED_OUT, Agent, Answer, Client, Page


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
        async with ScanBrowser(self.issuer) as browser:
            form = await browser.confirmed(page, person)
        return await agent.open(f"{self.issuer}/oauth/login", form, self._form_headers())

    async def sign_out(self, agent: Agent, page: Page) -> Answer:
        action, fields = page.form()
        return await agent.open(action, fields, self._form_headers())

    async def set_clock_ahead(self, seconds: float) -> None:
        self._clock.ahead = seconds

    def _form_headers(self) -> dict[str, str]:
        return {**FORM_HEADERS, "Origin": self.issuer}


@asynccontextmanager
async def running_broker_provider(start_broker: StartBroker) -> AsyncIterator[BrokerProvider]:
    clock = AheadClock()
    broker = await start_broker(
        directory=FullDirectory(), clock=clock, admin_token=TOKEN, webhooks_private=True
    )
    async with Admin(broker.admin) as admin:
        yield BrokerProvider(broker, admin, clock)
