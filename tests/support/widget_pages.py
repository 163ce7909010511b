"""Pages with the widget, at a site that receives their tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from aiohttp import web
from playwright.async_api import Page

from broker.infrastructure.runtime.server import Site, serve_sites
from mp_stub.phone import Phone
from tests.support.builders import RunningBroker, StartBroker
from tests.support.environment import free_port
from tests.support.pages import scene_on


class Served(NamedTuple):
    """A test site: its URL, its broker, the tokens it received and its next statuses."""

    url: str
    broker: RunningBroker
    tokens: list[str]
    answer: list[int]


Serve = Callable[..., Awaitable[Served]]


@asynccontextmanager
async def serving(start_broker: StartBroker) -> AsyncIterator[Serve]:
    """Yield a function that starts a site with one page, and a broker for it.

    {broker} in the page stands for the broker's address, {socket} for that of its WebSocket.
    files: a folder that the site serves.
    """
    async with AsyncExitStack() as stack:

        async def start(page: str, *, files: Path | None = None, **settings: object) -> Served:
            port = free_port()
            broker = await start_broker(origins=f"http://127.0.0.1:{port}", **settings)
            served = Served(f"http://127.0.0.1:{port}", broker, [], [204])

            async def show(request: web.Request) -> web.Response:
                text = page.replace("{socket}", broker.url.replace("http", "ws"))
                text = "<!doctype html>" + text.replace("{broker}", broker.url)
                return web.Response(text=text, content_type="text/html")

            async def take(request: web.Request) -> web.Response:
                served.tokens.append(await request.text())
                return web.Response(status=served.answer[0])

            site = web.Application()
            site.add_routes([web.get("/", show), web.post("/session", take)])
            if files is not None:
                site.router.add_static("/", files)
            await stack.enter_async_context(
                serve_sites([Site("site", site, "127.0.0.1", port, "PORT")])
            )
            return served

        yield start


async def log_in(page: Page, served: Served) -> None:
    """Scan the page's code as alice, and confirm."""
    scene = await scene_on(page)
    async with Phone(broker=served.broker.url, name="alice") as phone:
        await phone.confirm((await phone.scan(scene))["login_id"])


def record_console(page: Page) -> list[str]:
    """Record the console lines of the page from now on."""
    lines: list[str] = []
    page.on("console", lambda line: lines.append(line.text))
    return lines
