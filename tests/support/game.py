"""The game of the example site: its app at a broker, and its callbacks."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import aiohttp
from aiohttp import web
from standardwebhooks import Webhook

from broker.infrastructure.runtime.server import Site, serve_sites
from broker.infrastructure.runtime.settings import ServerSettings
from tests.support.app_admin import TOKEN, Admin
from tests.support.builders import FixedDirectory, RunningBroker, StartBroker
from tests.support.environment import free_port
from tests.support.proxy import Proxy, proxying
from tests.support.webhook import SECRET
from web_demo.game.match import Pace
from web_demo.game.server import CALLBACK_PATH, GameOptions, GameServer
from web_demo.site import build_site

GAME_APP = "game"

PATIENT = Pace(choose=600, reveal=0.2, rematch=600)
"""No round ends because a test is slow."""


class GameStage(NamedTuple):
    """The example site with the game, and a proxy between browsers and broker.

    broker: `url` is its address without the proxy.
    """

    site: str
    broker: RunningBroker
    proxy: Proxy
    options: GameOptions


async def add_app(admin_url: str, tunnel_url: str, pace: Pace) -> GameOptions:
    """Add the app of the game at the admin port."""
    fields = {"id": GAME_APP, "name": "Game", "phone_app": "default", "tunnel_url": tunnel_url}
    async with Admin(admin_url) as admin:
        added = await admin.ask("POST", "/apps", fields)
        assert added.status == 201, added.body
        rotated = await admin.ask("POST", f"/apps/{GAME_APP}/rotate-secret")
        signing = await admin.ask("POST", f"/apps/{GAME_APP}/rotate-webhook-secret")
    return GameOptions(GAME_APP, rotated.body["api_secret"], signing.body["webhook_secret"], pace)


@asynccontextmanager
async def game_stage(
    start_broker: StartBroker,
    *,
    register: FixedDirectory | None = None,
    pace: Pace = PATIENT,
    **settings: object,
) -> AsyncIterator[GameStage]:
    async with proxying() as proxy:
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        broker = await start_broker(
            register,
            public_url=f"http://127.0.0.1:{proxy.port}",
            origins=url,
            webhooks_private=True,
            admin_token=TOKEN,
            **settings,
        )
        proxy.lead_to(broker.settings[ServerSettings].port)
        options = await add_app(broker.admin, url + CALLBACK_PATH, pace)
        public_url = broker.settings[ServerSettings].public_url
        site = build_site(broker_url=public_url, game=options)
        async with serve_sites([Site("site", site, "127.0.0.1", port, "PORT")]):
            yield GameStage(url, broker, proxy, options)


class SignedCallbacks:
    """A game without a broker, and callbacks that are signed as the broker signs them."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self.http = http

    async def send(
        self,
        type_: str,
        data: dict[str, Any],
        *,
        secret: str = SECRET,
        age: float = 0,
        change: bytes = b"",
    ) -> tuple[int, Any]:
        """Send a callback. age: seconds.  change: is added to the body after it was signed."""
        signed_at = datetime.now(UTC) - timedelta(seconds=age)
        id_ = f"{data.get('tunnel_id')}.{data.get('seq')}"
        body = json.dumps({"type": type_, "data": {"app": GAME_APP, **data}})
        headers = {
            "webhook-id": id_,
            "webhook-timestamp": str(int(signed_at.timestamp())),
            "webhook-signature": Webhook(secret).sign(id_, signed_at, body),
        }
        sent = body.encode() + change
        async with self.http.post(CALLBACK_PATH, data=sent, headers=headers) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if text else None

    async def open(
        self, name: str, *, tunnel: str = "", seq: int = 1, resumed: bool = False
    ) -> Any:
        fields = self._fields(name, tunnel, seq)
        return await self.send("tunnel.open", {**fields, "resumed": resumed})

    async def say(self, name: str, seq: int, data: object, *, tunnel: str = "") -> tuple[int, Any]:
        fields = self._fields(name, tunnel, seq)
        return await self.send("tunnel.message", {**fields, "data": data})

    def _fields(self, name: str, tunnel: str, seq: int) -> dict[str, Any]:
        subject = f"pretend:{name}"
        return {"subject": subject, "tunnel_id": tunnel or name, "seq": seq, "meta": {}}

    async def act(self, name: str, seq: int, act: str, **fields: object) -> dict[str, Any]:
        """Send an act, and return the view that answers it."""
        status, body = await self.say(name, seq, {"act": act, **fields})
        assert status == 200, body
        return dict(body["reply"])


@asynccontextmanager
async def signed_callbacks(
    broker: str = "http://127.0.0.1:9",
) -> AsyncIterator[SignedCallbacks]:
    options = GameOptions(GAME_APP, "secret", SECRET, PATIENT)
    server = GameServer(broker=broker, options=options, person_of=lambda _: None)
    application = web.Application()
    application.cleanup_ctx.append(server.running)
    application.router.add_post(CALLBACK_PATH, server.receive)
    async with (
        serve_sites([Site("game", application, "127.0.0.1", free_port(), "PORT")]) as addresses,
        aiohttp.ClientSession(addresses["game"]) as http,
    ):
        yield SignedCallbacks(http)
