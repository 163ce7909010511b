"""The broker over `memory://` after the host's clock was set by an hour: what others verify."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from standardwebhooks import Webhook

from tests.support.builders import StartBroker
from tests.support.clients import PhoneClient
from tests.support.http_site import serving
from tests.support.logins import new_login, token_of
from tests.support.logout_receiver import LogoutReceiver, logout_receiver, verified_logout
from tests.support.oidc_app import SETTINGS, ProfileDirectory, claims_of, relying_party
from tests.support.tunnel_client import tunnel_world
from tests.support.waiting import eventually
from tests.support.webhook import SECRET


@pytest.fixture(params=[3_600, -3_600], ids=["forward", "back"], autouse=True)
def set_clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of the state keeps the time from before the step."""
    monkeypatch.setattr(
        "broker.state.memory.SteadyClock", lambda timer: lambda: time.time() - request.param
    )


@pytest.fixture
async def receiver() -> AsyncIterator[LogoutReceiver]:
    async with logout_receiver() as started:
        yield started


async def test_backend_accepts_callbacks_and_events(start_broker: StartBroker) -> None:
    async with (
        tunnel_world(start_broker) as world,
        new_login(world.broker) as login,
        PhoneClient(world.broker.url) as phone,
    ):
        await phone.post("scan", {"scene": login.scene})
        await phone.post("confirm", login.named)
        await world.open(subject=await login.subject())
        await phone.post("report", login.named)

        assert await world.backend.received("tunnel.open")
        assert await world.backend.received("login.reported")


async def test_app_accepts_the_logout_token(
    start_broker: StartBroker, receiver: LogoutReceiver
) -> None:
    broker = await start_broker(ProfileDirectory(), webhooks_private=True, **SETTINGS)
    async with relying_party(broker, backchannel_logout_url=receiver.url) as app:
        claims = claims_of((await app.tokens())["id_token"])
        await app.admin.ask("DELETE", f"/signins/{claims['sid']}?subject={claims['sub']}")
        await eventually(lambda: receiver.tokens)

        assert await verified_logout(broker.url, receiver.tokens[0], audience=app.id)


async def test_receiver_accepts_pushed_audit_entries(start_broker: StartBroker) -> None:
    pushed: list[Any] = []

    async def receive(request: web.Request) -> web.Response:
        pushed.append(Webhook(SECRET).verify(await request.read(), dict(request.headers)))
        return web.Response()

    site = web.Application()
    site.router.add_post("/audit", receive)
    async with serving(site) as port:
        broker = await start_broker(
            audit_url=f"http://127.0.0.1:{port}/audit", audit_secret=SECRET, webhooks_private=True
        )
        await token_of(broker)

        await eventually(lambda: pushed)
