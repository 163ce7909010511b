"""Broker, example site and phone page in one process: the main job in one command.

With the provider wechat there is a pretend WeChat too, and every call that a real
one would get goes there.

    pool.py    codes drawn ahead of time
"""

from __future__ import annotations

import asyncio
import socket
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import aiohttp
from aiohttp import web

from broker.app import build
from broker.apps.settings import AppSettings
from broker.cli.demo import pool
from broker.infrastructure.background import spawn
from broker.infrastructure.observability.logging import announce
from broker.infrastructure.outbound.ssrf import is_loopback
from broker.infrastructure.runtime.server import Site, serve_until_signal
from broker.infrastructure.settings import Settings
from broker.providers.pretend import terminal_code
from broker.settings import load_settings
from mp_stub.phone_page import build_phone_page
from mp_stub.wechat.platform import APPID, SECRET, MiniProgram, Platform
from mp_stub.wechat.server import WeChatStub
from web_demo.site import build_site

ANY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104  # compared with, not listened on

PUBLIC_WARNING = """\
  Whoever reaches these addresses can log in as anybody: the pretend provider
  believes every phone.  Keep this to a network that you trust.
"""

BANNER = """
  Example site   {0.site}      open this: it shows the code
  Phone page     {0.phone}      plays the phone, when you have none at hand
  Broker         {0.broker}

  Ctrl-C stops all of it.
"""

WECHAT_BANNER = """\
  Pretend WeChat {0}      draws the codes and proves the phones

  It goes wrong when it is told to, for example so, twice:
  curl -X PUT {0}/pretend/faults/getwxacodeunlimit -d '{{"fault": "45009", "times": 2}}'
"""


class DemoPorts(NamedTuple):
    """wechat: the pretend WeChat's; only the provider wechat has one."""

    broker: int
    site: int
    phone: int
    wechat: int


class DemoURLs(NamedTuple):
    """As browsers and phones see them; no pretend WeChat where nobody asks it."""

    broker: str
    site: str
    phone: str
    wechat: str | None


async def run_demo(host: str, ports: DemoPorts, provider: str, *, pooled: bool = False) -> None:
    """Serve all of it on `host` until stopped; raises PortInUse.

    pooled: codes are the pool's, which is filled first.
    """
    seen_as = own_address() if host in ANY_ADDRESS else f"[{host}]" if ":" in host else host
    urls = DemoURLs(
        broker=f"http://{seen_as}:{ports.broker}",
        site=f"http://{seen_as}:{ports.site}",
        phone=f"http://{seen_as}:{ports.phone}",
        # The broker and the phone page's server alone call it, so it stays on loopback.
        wechat=f"http://127.0.0.1:{ports.wechat}" if provider == "wechat" else None,
    )
    with tempfile.TemporaryDirectory(prefix="scan-login-demo-") as folder:
        more = pool.POOL_SETTINGS if pooled else {}
        settings = _settings(host, ports.broker, urls, provider, Path(folder), more)
        origins = (*_site_origins(seen_as, ports.site), *settings.origins)
        settings = settings.replace(AppSettings, origins=origins)
        broker = build(settings)
        tasks: list[asyncio.Task[None]] = []

        async def go_on() -> None:
            if pooled and urls.wechat:
                await pool.wait_until_filled(broker.leases, urls.wechat)
                tasks.append(spawn("demo pool", pool.watch(broker.leases)))
            await _terminal_login(urls.broker, f"{urls.phone}/")

        def ready(addresses: dict[str, str]) -> None:
            announce(_greeting(host, urls))
            tasks.append(spawn("demo login", go_on()))

        try:
            sites = _sites(host, ports, urls, broker.public)
            await serve_until_signal(sites, ready, trouble=broker.trouble)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _settings(
    host: str, port: int, urls: DemoURLs, provider: str, folder: Path, more: Mapping[str, Any]
) -> Settings:
    return load_settings(
        host=host,
        port=port,
        public_url=urls.broker,
        phone_page_url=f"{urls.phone}/",
        allow_pretend=True,
        provider=provider,
        **(_with_wechat(urls.wechat) if urls.wechat else {}),
        key_file=folder / "keys.json",
        seal_file=folder / "seal.json",
        records_url=f"sqlite+aiosqlite:///{folder}/records.db",
        workers=1,
        roles=(),
        **more,
    )


def _sites(host: str, ports: DemoPorts, urls: DemoURLs, broker: web.Application) -> Iterator[Site]:
    if urls.wechat:  # first: the broker fetches its access token as soon as it serves
        wechat = WeChatStub(Platform([MiniProgram(APPID, SECRET)]), link=f"{urls.phone}/")
        yield Site("WeChat", wechat.application(), "127.0.0.1", ports.wechat, "WECHAT_PORT")
    site = build_site(broker_url=urls.broker, phone_url=urls.phone)
    phone = build_phone_page(broker_url=urls.broker, wechat_url=urls.wechat)
    yield Site("broker", broker, host, ports.broker, "PORT")
    yield Site("example site", site, host, ports.site, "SITE_PORT")
    yield Site("phone page", phone, host, ports.phone, "PHONE_PORT")


def _with_wechat(url: str) -> dict[str, Any]:
    return {"wechat_api_url": url, "wechat_appid": APPID, "wechat_secret": SECRET}


def own_address() -> str:
    """This machine's address on its network, as a phone there would see it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET; a datagram socket sends nothing here
        except OSError:
            return "127.0.0.1"
        address: str = probe.getsockname()[0]
        return address


def _site_origins(seen_as: str, port: int) -> tuple[str, ...]:
    return tuple(sorted({f"http://{host}:{port}" for host in (seen_as, "127.0.0.1", "localhost")}))


def _greeting(host: str, urls: DemoURLs) -> str:
    parts = [BANNER.format(urls)]
    if urls.wechat:
        parts.append(WECHAT_BANNER.format(urls.wechat))
    if not is_loopback(host):
        parts.append(PUBLIC_WARNING)
    return "\n".join(parts)


async def _terminal_login(broker_url: str, phone_page_url: str) -> None:
    """Log this terminal in as well: RFC 8628, with the code printed."""
    async with aiohttp.ClientSession(broker_url) as http:
        begun = await _post(http, "/oauth/device_authorization", client_id="default")
        link = f"{phone_page_url}?{urlencode({'scene': begun['user_code']})}"
        announce(f"  Or log this terminal in: scan, or open {link}\n\n{terminal_code(link)}")
        while True:
            await asyncio.sleep(begun["interval"])
            answer = await _post(
                http,
                "/oauth/token",
                grant_type="urn:ietf:params:oauth:grant-type:device_code",
                client_id="default",
                device_code=begun["device_code"],
            )
            if answer.get("error") not in ("authorization_pending", "slow_down"):
                break
    if answer.get("error") == "expired_token":
        outcome = "its code has run out; the page draws fresh ones"
    else:
        outcome = answer.get("error_description") or f"logged in as {answer['subject']}"
    announce(f"  This terminal: {outcome}.")


async def _post(http: aiohttp.ClientSession, path: str, **form: str) -> dict[str, Any]:
    async with http.post(path, data=form) as response:
        answer: dict[str, Any] = await response.json()
        return answer
