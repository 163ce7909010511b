"""A WeChat stub for the tests, and a reader of its codes."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

import zxingcpp
from aiohttp import web
from PIL import Image

from broker.infrastructure.runtime.server import Site, serve_sites
from broker.providers.wechat.provider import WeChatProvider
from mp_stub.wechat.platform import MiniProgram, Platform
from mp_stub.wechat.server import WeChatStub

APPID = "wx0123456789abcdef"
SECRET = "canary-appsecret"
PAGE = "pages/index/wsLogin"
LINK = "http://phone.example/"


def settings_of(url: str, **changes: object) -> dict[str, object]:
    """Broker settings for WeChat at `url`."""
    return {
        "provider": "wechat",
        "wechat_appid": APPID,
        "wechat_secret": SECRET,
        "wechat_api_url": url,
        **changes,
    }


class Pretending(NamedTuple):
    """A running WeChat stub."""

    url: str
    wechat: WeChatStub

    def settings(self, **changes: object) -> dict[str, object]:
        return settings_of(self.url, **changes)


@asynccontextmanager
async def pretending(
    *, clock: Callable[[], float] | None = None, **program: object
) -> AsyncIterator[Pretending]:
    programs = [MiniProgram(APPID, SECRET, **program)]  # type: ignore[arg-type]
    platform = Platform(programs, clock=clock) if clock else Platform(programs)
    wechat = WeChatStub(platform, link=LINK)
    site = Site("wechat", wechat.application(), "127.0.0.1", 0, "PORT")
    async with serve_sites([site]) as addresses:
        yield Pretending(addresses["wechat"], wechat)


def provider_of(url: str, **changes: object) -> WeChatProvider:
    fields: dict[str, object] = {
        "appid": APPID,
        "secret": SECRET,
        "api_url": url,
        "page": PAGE,
        "env_version": "release",
        "check_path": True,
        "width": 430,
        "codes_per_minute": 4500,
        **changes,
    }
    return WeChatProvider(**fields)  # type: ignore[arg-type]


@asynccontextmanager
async def provider_at(url: str, **changes: object) -> AsyncIterator[WeChatProvider]:
    provider = provider_of(url, **changes)
    await provider.open()
    try:
        yield provider
    finally:
        await provider.close()


def link_in(picture: bytes) -> str:
    """The text of the code in an image."""
    [code] = zxingcpp.read_barcodes(Image.open(io.BytesIO(picture)))
    return str(code.text)


def seen_in(picture: bytes) -> dict[str, str]:
    """The query parameters `page` and `scene` of the link in an image."""
    return dict(parse_qsl(urlsplit(link_in(picture)).query))


DRAW, IDENTIFY, TOKEN = "getwxacodeunlimit", "jscode2session", "stable_token"


class Odd:
    """A server with one fixed answer. It records the requested paths."""

    def __init__(self, body: bytes, media_type: str, status: int = 200, **headers: str) -> None:
        self._body = body
        self._status = status
        self._headers = {"Content-Type": media_type, **headers}
        self.asked: list[str] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        return web.Response(status=self._status, body=self._body, headers=self._headers)

    async def token(self, request: web.Request) -> web.Response:
        return web.json_response({"access_token": "canary-token", "expires_in": 7200})

    def application(self) -> web.Application:
        application = web.Application()
        application.router.add_post("/cgi-bin/stable_token", self.token)
        application.router.add_route("*", "/{path:.*}", self.answer)
        return application
