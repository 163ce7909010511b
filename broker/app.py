"""Joins open parts into one application: the one place that knows all of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import structlog
from aiohttp import web

from broker.bus import open_bus
from broker.directories import DIRECTORIES, Directory
from broker.edge.browser import BrowserEdge
from broker.edge.gate import Addresses, Gate, Origins
from broker.edge.oauth import OAuthEdge, pages_may_ask
from broker.edge.phone import PhoneEdge
from broker.edge.public import PublicEdge
from broker.edge.wire import BODY_MAX_BYTES, DEFAULT_APP, add_headers, answer_failures
from broker.engine import Server
from broker.flow import Flow
from broker.lobby import Lobby
from broker.providers.pretend import PretendProvider
from broker.records import App
from broker.records.settings import SettingsApps
from broker.sessions import Sessions
from broker.settings import Settings
from broker.state import Clock, open_state
from broker.tokens import Issuer, KeyFile

log = structlog.get_logger()

LOBBY_RETRY = 1.0
"""Seconds until the lobby starts again after a failure."""


@dataclass(frozen=True, slots=True)
class Broker:
    """The public application and the one for the operator's port."""

    public: web.Application
    admin: web.Application


def build(
    settings: Settings, *, clock: Clock = time.time, directory: Directory | None = None
) -> Broker:
    """A broker as `settings` want it, with nothing running yet; `directory` replaces theirs."""
    store = open_state(settings.state_url, clock)
    bus = open_bus(settings.bus_url or settings.state_url)
    apps = SettingsApps([_default_app(settings)])
    provider = PretendProvider(phone_page_url=settings.phone_page_url)
    issuer = Issuer(
        file=KeyFile(settings.key_file),
        algorithm=settings.token_algorithm,
        issuer=settings.public_url,
        lifetime=settings.token_lifetime,
        now=clock(),
    )
    sessions = Sessions(
        store=store.sessions, provider=provider, clock=clock, lifetime=settings.session_lifetime
    )
    flow = Flow(
        logins=store.logins,
        bus=bus,
        apps=apps,
        provider=provider,
        directory=directory or DIRECTORIES[settings.directory](),
        issuer=issuer,
        clock=clock,
        instance=settings.instance,
        lifetime=settings.login_lifetime,
    )
    lobby = Lobby(bus=bus, flow=flow, clock=clock, instance=settings.instance)
    server = Server(allow_origin=Origins(apps))
    knock: dict[str, Any] = {
        "gate": Gate(
            begins=settings.begins_per_minute,
            misses=settings.misses_per_minute,
            interval=settings.interval,
        ),
        "addresses": Addresses(settings.trusted_proxies),
        "clock": clock,
    }
    browsers = BrowserEdge(
        server=server, flow=flow, lobby=lobby, apps=apps, interval=settings.interval, **knock
    )
    phones = PhoneEdge(server=server, flow=flow, sessions=sessions, apps=apps, **knock)
    oauth = OAuthEdge(
        flow=flow,
        apps=apps,
        public_url=settings.public_url,
        interval=settings.interval,
        **knock,
    )
    running = _Running(lobby, browsers, server)
    public = PublicEdge(
        issuer=issuer, ready=running.trouble, clock=clock, public_url=settings.public_url
    )

    application = web.Application(
        middlewares=[pages_may_ask(apps), answer_failures], client_max_size=BODY_MAX_BYTES
    )
    application.add_routes([*phones.routes(), *oauth.routes(), *public.routes()])
    application.on_response_prepare.append(add_headers)
    server.attach(application)
    application.cleanup_ctx.append(running.context)
    application.on_shutdown.append(running.close_sockets)

    admin = web.Application(middlewares=[answer_failures])
    admin.on_response_prepare.append(add_headers)
    admin.add_routes(public.admin_routes())
    return Broker(application, admin)


def _default_app(settings: Settings) -> App:
    return App(
        id=DEFAULT_APP,
        name=settings.app_name,
        origins=frozenset(settings.origins),
        register_url=settings.register_url,
    )


class _Running:
    """What runs beside the requests: the lobby."""

    def __init__(self, lobby: Lobby, browsers: BrowserEdge, server: Server) -> None:
        self._lobby = lobby
        self._browsers = browsers
        self._server = server
        self._trouble: str | None = "starting"

    def trouble(self) -> str | None:
        return self._trouble

    async def context(self, application: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(self._keep_lobby())
        self._trouble = None
        yield
        task.cancel()
        await asyncio.wait([task])

    async def close_sockets(self, application: web.Application) -> None:
        self._trouble = "draining"
        await self._server.close()

    async def _keep_lobby(self) -> None:
        while True:
            try:
                await self._lobby.run(self._browsers.push)
            except Exception:  # browsers must be woken again, whatever it was
                log.exception("the lobby failed and starts again")
            await asyncio.sleep(LOBBY_RETRY)
