"""Runs broker, example site and phone page in one process.

With the provider `wechat`, a stub of WeChat's server runs too, and the broker and the phone
page send their WeChat requests to it.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import aiohttp

from broker.app import Broker, build
from broker.apps.model import DEFAULT_APP
from broker.apps.settings import AppSettings
from broker.cli.demo import gateway, pool
from broker.cli.demo.game import add_game
from broker.cli.demo.oidc import Products, add_products
from broker.infrastructure.background import spawn
from broker.infrastructure.observability.logging import announce
from broker.infrastructure.outbound.ssrf import is_loopback
from broker.infrastructure.runtime.server import Site, serve_until_signal
from broker.infrastructure.settings import Settings
from broker.infrastructure.urls import url_host
from broker.providers.pretend import terminal_code
from broker.settings import load_settings
from mp_stub.phone_page import build_phone_page
from mp_stub.wechat.platform import APPID, SECRET, MiniProgram, Platform
from mp_stub.wechat.server import WeChatStub
from web_demo.game.server import GameOptions
from web_demo.pictures import Pictures
from web_demo.site import build_site

ANY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104  # compared with, not listened on

ADMIN_SITE = "admin page"

CHAT_ROOM, CHAT_MODERATOR = "lobby", "pretend:alice"

PUBLIC_WARNING = """\
  Anyone who reaches these addresses can log in as anyone: the pretend provider
  accepts every phone.  Use this only in a network that you trust.
"""

BANNER = """
  Example site   {0.site}      open this and sign in
{1}  Game           {0.site}/game      sign in in two browsers, and play
  Phone page     {0.phone}      simulates a phone
  Broker         {0.broker}
{2}
  Ctrl-C stops all of them.
"""

ADMIN_BANNER = """\
  Admin page     {0}      its token is {1}
  HTTP API       {0}/api
"""

CHAT_BANNER = """\
  Chat           {0.site}/chat      sign in in two browsers, and talk
"""

WECHAT_BANNER = """\
  WeChat stub    {0}      draws the codes and verifies the phones

  This makes its next two draws fail:
  curl -X PUT {0}/pretend/faults/getwxacodeunlimit -d '{{"fault": "45009", "times": 2}}'
"""


GATEWAY_BANNER = """\
  Gateway        {0}      Envoy, unchanged: it signs you in with OpenID Connect
"""


WECHAT_OIDC_BANNER = """\
  The broker's sign-in page has no link to the phone page with this provider: {0}
"""

DRAWN_CODES = "open the link\n  of the code that was drawn last, which is printed here."

POOL_CODES = "read its\n  code with a QR reader on this machine, and open the link in the code."


class DemoPorts(NamedTuple):
    """wechat: port of the WeChat stub, which runs with the provider `wechat` only.

    gateway: port of Envoy, which runs with OpenID Connect only.
    admin: port of the admin page, which is turned off if the port is in use.
    """

    broker: int
    site: int
    phone: int
    wechat: int
    gateway: int
    admin: int


class DemoOptions(NamedTuple):
    """provider: `pretend` or `wechat`. pooled: draw the codes in advance.

    oidc: sign in at the example site, and at a gateway, with OpenID Connect.
    """

    provider: str
    pooled: bool = False
    oidc: bool = False


class DemoURLs(NamedTuple):
    """URLs for browsers and phones.  wechat, gateway: None if they do not run."""

    broker: str
    site: str
    phone: str
    wechat: str | None
    gateway: str | None


async def run_demo(host: str, ports: DemoPorts, options: DemoOptions) -> None:
    """Serve everything on `host` until a signal arrives.  Raises PortInUse."""
    provider, pooled = options.provider, options.pooled
    name = own_address() if host in ANY_ADDRESS else url_host(host)
    urls = _urls(name, ports, options)
    with tempfile.TemporaryDirectory(prefix="scan-login-demo-") as folder:
        values = _values(host, ports.broker, urls, provider, Path(folder))
        settings = load_settings(None, **values, **(pool.POOL_SETTINGS if pooled else {}))
        origins = (*_site_origins(name, ports.site), *settings[AppSettings].origins)
        settings = settings.replace(AppSettings, origins=origins)
        products = await _products(settings, urls)
        game = await add_game(settings, urls.site)
        pictures = _pictures(urls.broker, str(values["admin_token"]))
        broker = build(settings)
        tasks: list[asyncio.Task[None]] = []

        async def after_start() -> None:
            if pooled and urls.wechat:
                await pool.wait_until_filled(broker.code_leases, urls.wechat)
                tasks.append(spawn("demo pool", pool.watch(broker.code_leases)))
            await _terminal_login(urls.broker, f"{urls.phone}/")

        def on_ready(addresses: dict[str, str]) -> None:
            page = addresses.get(ADMIN_SITE)
            admin = ADMIN_BANNER.format(page, values["admin_token"]) if page else ""
            announce(greeting(host, urls, pooled=pooled, admin=admin))
            tasks.append(spawn("demo login", after_start()))

        try:
            async with _gateway(host, ports, urls, products, Path(folder)) as page:
                on_draw = _announce_code if options.oidc and not pooled else None
                sites = _sites(host, ports, urls, broker, products, game, pictures, on_draw)
                await serve_until_signal(
                    [*sites, *page], on_ready, unready_reason=broker.unready_reason
                )
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _urls(name: str, ports: DemoPorts, options: DemoOptions) -> DemoURLs:
    return DemoURLs(
        broker=f"http://{name}:{ports.broker}",
        site=f"http://{name}:{ports.site}",
        phone=f"http://{name}:{ports.phone}",
        # Only the broker and the phone page's server call it, so it listens on loopback.
        wechat=f"http://127.0.0.1:{ports.wechat}" if options.provider == "wechat" else None,
        gateway=f"http://{name}:{ports.gateway}" if options.oidc else None,
    )


def _pictures(broker_url: str, admin_token: str) -> Pictures:
    """The app `default` has no secret, so its server uses the admin token."""
    return Pictures(broker=broker_url, app=DEFAULT_APP, authorization=f"Bearer {admin_token}")


async def _products(settings: Settings, urls: DemoURLs) -> Products | None:
    if urls.gateway is None:
        return None
    return await add_products(
        settings, issuer=urls.broker, site_url=urls.site, gateway_url=urls.gateway
    )


@asynccontextmanager
async def _gateway(
    host: str, ports: DemoPorts, urls: DemoURLs, products: Products | None, folder: Path
) -> AsyncIterator[Sequence[Site]]:
    """Run Envoy, if it is part of the demo; yields the page behind it."""
    if products is None:
        yield ()
        return
    page, admin = free_port(), free_port()
    configuration = gateway.write_configuration(
        folder,
        host=host,
        port=ports.gateway,
        admin=admin,
        issuer=urls.broker,
        secret=products.gateway_secret,
        upstream=page,
    )
    async with gateway.running_gateway(configuration, "127.0.0.1", ports.gateway):
        yield [Site("protected page", gateway.protected_page(), "127.0.0.1", page, "GATEWAY_PORT")]


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _values(host: str, port: int, urls: DemoURLs, provider: str, folder: Path) -> dict[str, object]:
    """Return the settings that the demo fixes."""
    values: dict[str, object] = {
        "host": host,
        "port": port,
        "public_url": urls.broker,
        "webhooks_private": True,  # back-channel logouts go to this machine
        "phone_page_url": f"{urls.phone}/",
        "allow_pretend": True,
        "admin_token": secrets.token_urlsafe(24),
        "provider": provider,
        "key_file": folder / "keys.json",
        "seal_file": folder / "seal.json",
        "records_url": f"sqlite+aiosqlite:///{folder}/records.db",
        "workers": 1,
        "roles": (),
        "chat_rooms": "open",
        "chat_moderators": (CHAT_MODERATOR,),
        "files_url": (folder / "files").as_uri(),
    }
    if urls.wechat:
        values |= {"wechat_api_url": urls.wechat, "wechat_appid": APPID, "wechat_secret": SECRET}
    return values


def _sites(
    host: str,
    ports: DemoPorts,
    urls: DemoURLs,
    broker: Broker,
    products: Products | None,
    game: GameOptions,
    pictures: Pictures,
    on_draw: Callable[[str], None] | None,
) -> Iterator[Site]:
    if urls.wechat:  # first: the broker requests an access token when it starts
        platform = Platform([MiniProgram(APPID, SECRET)])
        wechat = WeChatStub(platform, link=f"{urls.phone}/", on_draw=on_draw)
        yield Site("WeChat", wechat.application(), "127.0.0.1", ports.wechat, "WECHAT_PORT")
    client = None if products is None else products.site
    site = build_site(
        broker_url=urls.broker,
        phone_url=urls.phone,
        oidc=client,
        chat_room=CHAT_ROOM,
        game=game,
        pictures=pictures,
    )
    phone = build_phone_page(broker_url=urls.broker, wechat_url=urls.wechat)
    yield Site("broker", broker.public, host, ports.broker, "PORT")
    yield Site(ADMIN_SITE, broker.admin, "127.0.0.1", ports.admin, "ADMIN_PORT", needed=False)
    yield Site("example site", site, host, ports.site, "SITE_PORT")
    yield Site("phone page", phone, host, ports.phone, "PHONE_PORT")


def own_address() -> str:
    """Return this machine's address in its network, for phones there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET; a datagram socket sends nothing here
        except OSError:
            return "127.0.0.1"
        address: str = probe.getsockname()[0]
        return address


def _site_origins(name: str, port: int) -> tuple[str, ...]:
    return tuple(sorted({f"http://{host}:{port}" for host in (name, "127.0.0.1", "localhost")}))


def greeting(host: str, urls: DemoURLs, *, pooled: bool, admin: str = "") -> str:
    """Return the text that describes the demo.  admin: the line of the admin page."""
    chat = CHAT_BANNER.format(urls) if urls.gateway is None else ""
    parts = [BANNER.format(urls, chat, admin)]
    if urls.wechat:
        parts.append(WECHAT_BANNER.format(urls.wechat))
    if urls.gateway:
        parts.append(GATEWAY_BANNER.format(urls.gateway))
    if urls.wechat and urls.gateway:
        parts.append(WECHAT_OIDC_BANNER.format(POOL_CODES if pooled else DRAWN_CODES))
    if not is_loopback(host):
        parts.append(PUBLIC_WARNING)
    return "\n".join(parts)


def _announce_code(link: str) -> None:
    announce(f"  Code drawn     {link}")


async def _terminal_login(broker_url: str, phone_page_url: str) -> None:
    """Log this terminal in by RFC 8628, with a printed code."""
    async with aiohttp.ClientSession(broker_url) as http:
        started = await _post(http, "/oauth/device_authorization", client_id="default")
        link = f"{phone_page_url}?{urlencode({'scene': started['user_code']})}"
        announce(
            f"  To log in this terminal, scan the code or open {link}\n\n{terminal_code(link)}"
        )
        while True:
            await asyncio.sleep(started["interval"])
            answer = await _post(
                http,
                "/oauth/token",
                grant_type="urn:ietf:params:oauth:grant-type:device_code",
                client_id="default",
                device_code=started["device_code"],
            )
            if answer.get("error") not in ("authorization_pending", "slow_down"):
                break
    if answer.get("error") == "expired_token":
        outcome = "its code has expired; reload the site for a new one"
    else:
        outcome = answer.get("error_description") or f"logged in as {answer['subject']}"
    announce(f"  This terminal: {outcome}.")


async def _post(http: aiohttp.ClientSession, path: str, **form: str) -> dict[str, Any]:
    async with http.post(path, data=form) as response:
        answer: dict[str, Any] = await response.json()
        return answer
