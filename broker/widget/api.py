"""The widget, the Socket.IO client, the index page and their style sheet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from aiohttp import web

from broker.infrastructure.api.pages import HTMLPage, preferred_language
from broker.infrastructure.api.static import StaticFile, serve_static

STATIC = Path(__file__).parent / "static"
VENDOR = STATIC / "vendor"

JAVASCRIPT = "text/javascript"
DAY = 86_400

STATIC_FILES: Mapping[str, StaticFile] = {
    "/scan-login.js": StaticFile(STATIC / "scan-login.js", JAVASCRIPT, 300),
    "/socket.io/socket.io.min.js": StaticFile(VENDOR / "socket.io.min.js", JAVASCRIPT, DAY),
    "/socket.io/socket.io.esm.min.js": StaticFile(VENDOR / "socket.io.esm.min.js", JAVASCRIPT, DAY),
    "/page.css": StaticFile(STATIC / "page.css", "text/css", 300),
}
"""The files by path."""

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

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self.index),
            *(web.get(path, serve_static(file)) for path, file in STATIC_FILES.items()),
        ]

    async def index(self, request: web.Request) -> web.Response:
        words = INDEX_TEXTS[preferred_language(request)]
        return self._page.render({**words, "public_url": self._public_url})
