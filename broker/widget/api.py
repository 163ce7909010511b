"""The widget, the Socket.IO client, the index page and their style sheet."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from aiohttp import web

from broker import __version__
from broker.infrastructure.api.endpoint import PUBLIC, Endpoint
from broker.infrastructure.api.pages import HTMLPage, preferred_language
from broker.infrastructure.api.static import StaticFile, serve_static

STATIC = Path(__file__).parent / "static"
VENDOR = STATIC / "vendor"

JAVASCRIPT = "text/javascript"
DAY = 86_400
YEAR = 365 * DAY


class WidgetFile(NamedTuple):
    path: str
    file: StaticFile
    operation_id: str
    summary: str


FILES = (
    WidgetFile(
        "/scan-login.js",
        StaticFile(STATIC / "scan-login.js", JAVASCRIPT, 300),
        "getWidget",
        "The widget",
    ),
    WidgetFile(
        f"/scan-login-{{version:{re.escape(__version__)}}}.js",
        StaticFile(STATIC / "scan-login.js", JAVASCRIPT, YEAR, immutable=True),
        "getVersionedWidget",
        "The widget of the broker's version, for subresource integrity",
    ),
    WidgetFile(
        "/socket.io/socket.io.min.js",
        StaticFile(VENDOR / "socket.io.min.js", JAVASCRIPT, DAY),
        "getSocketIOClient",
        "The official Socket.IO client",
    ),
    WidgetFile(
        "/socket.io/socket.io.esm.min.js",
        StaticFile(VENDOR / "socket.io.esm.min.js", JAVASCRIPT, DAY),
        "getSocketIOModule",
        "The official Socket.IO client as a module",
    ),
    WidgetFile(
        "/page.css",
        StaticFile(STATIC / "page.css", "text/css", 300),
        "getPageStyles",
        "The style sheet of pages",
    ),
)

INDEX_TEXTS = {
    "en": {
        "lang": "en",
        "title": "The scan-login broker is running",
        "sentence": "Put these lines into a page whose Origin is in SCAN_LOGIN_ORIGINS.",
        "comment": "Send the token to your own server, which checks it.",
    },
    "zh": {
        "lang": "zh-CN",
        "title": "扫码登录服务已启动",
        "sentence": "把以下代码放入网页，并将网页的 Origin 加入 SCAN_LOGIN_ORIGINS。",
        "comment": "把令牌发送到网站自己的服务器，由服务器验证。",
    },
}


class WidgetAPI:
    """public_url: where browsers reach the broker."""

    def __init__(self, *, public_url: str) -> None:
        self._public_url = public_url
        self._page = HTMLPage(STATIC / "index.html")
        self._files = {one.path: serve_static(one.file) for one in FILES}

    async def index(self, request: web.Request) -> web.Response:
        texts = INDEX_TEXTS[preferred_language(request)]
        return self._page.render({**texts, "public_url": self._public_url})

    async def file(self, path: str, request: web.Request) -> web.StreamResponse:
        return await self._files[path](request)


def _handler(path: str) -> Callable[[WidgetAPI, web.Request], Awaitable[web.StreamResponse]]:
    async def serve(api: WidgetAPI, request: web.Request, version: str = "") -> web.StreamResponse:
        return await api.file(path, request)

    return serve


ENDPOINTS = [
    Endpoint(
        "GET",
        "/",
        WidgetAPI.index,
        role=PUBLIC,
        operation_id="showIndexPage",
        summary="A page that shows how to use the widget",
        response="text/html",
    ),
    *(
        Endpoint(
            "GET",
            path,
            _handler(path),
            role=PUBLIC,
            operation_id=operation_id,
            summary=summary,
            response=file.media_type,
        )
        for path, file, operation_id, summary in FILES
    ),
]
