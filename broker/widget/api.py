"""What anybody may ask: key set, codes' pictures, health, version, metrics, the widget."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from aiohttp import hdrs, web

from broker.errors import Unavailable
from broker.infrastructure.api.client_address import ClientAddresses
from broker.infrastructure.api.pages import HTMLPage, preferred_language
from broker.infrastructure.api.responses import error_response, json_response
from broker.infrastructure.api.static import StaticFile, is_not_modified, serve_static
from broker.infrastructure.observability.metrics import CONTENT_TYPE, render
from broker.monitoring.api import READY, ReadinessCheck, live, uncached_response, version
from broker.pool.api import PICTURE_HEADERS
from broker.pool.errors import PictureNotFound
from broker.pool.pictures import PictureCache, media_type_of
from broker.tokens.issuer import TokenIssuer
from broker.tokens.keys import KEY_SET_MAX_AGE

STATIC = Path(__file__).parent / "static"
VENDOR = STATIC / "vendor"

KEY_SET = "/.well-known/jwks.json"


JAVASCRIPT = "text/javascript"
DAY = 86_400

STATIC_FILES: Mapping[str, StaticFile] = {
    "/scan-login.js": StaticFile(STATIC / "scan-login.js", JAVASCRIPT, 300),
    "/socket.io/socket.io.min.js": StaticFile(VENDOR / "socket.io.min.js", JAVASCRIPT, DAY),
    "/socket.io/socket.io.esm.min.js": StaticFile(VENDOR / "socket.io.esm.min.js", JAVASCRIPT, DAY),
    "/page.css": StaticFile(STATIC / "page.css", "text/css", 300),
}

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
    def __init__(
        self,
        *,
        issuer: TokenIssuer,
        ready: ReadinessCheck,
        public_url: str,
        pictures: PictureCache,
        addresses: ClientAddresses,
    ) -> None:
        self._issuer = issuer
        self._ready = ready
        self._public_url = public_url
        self._pictures = pictures
        self._addresses = addresses
        self._page = HTMLPage(STATIC / "index.html")

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self._index),
            web.get(KEY_SET, self._key_set),
            web.get("/codes/{key}", self._picture),
            *self.health_routes(),
            *(web.get(path, serve_static(file)) for path, file in STATIC_FILES.items()),
        ]

    def admin_routes(self) -> list[web.RouteDef]:
        return [web.get("/metrics", self._metrics), *self.health_routes()]

    def health_routes(self) -> list[web.RouteDef]:
        return [
            web.get("/health/live", live),
            web.get("/health/ready", self._readiness),
            web.get("/version", version),
        ]

    async def _index(self, request: web.Request) -> web.Response:
        words = INDEX_TEXTS[preferred_language(request)]
        return self._page.render({**words, "public_url": self._public_url})

    async def _key_set(self, request: web.Request) -> web.Response:
        headers: dict[str, str] = {
            hdrs.CACHE_CONTROL: f"public, max-age={KEY_SET_MAX_AGE}",
            hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*",
        }
        return json_response(self._issuer.key_set(), headers)

    async def _picture(self, request: web.Request) -> web.Response:
        key = request.match_info["key"]
        content = await self._pictures.get(key, self._addresses.of(request))
        if content is None:
            raise PictureNotFound
        headers = {**PICTURE_HEADERS, hdrs.ETAG: f'"{key}"'}  # what has a key is never changed
        if is_not_modified(request, key):
            return web.Response(status=304, headers=headers)
        return web.Response(body=content, content_type=media_type_of(key), headers=headers)

    async def _readiness(self, request: web.Request) -> web.Response:
        reason = self._ready()
        if reason is not None:
            return error_response(Unavailable(reason))
        return uncached_response({"status": "ready"})

    async def _metrics(self, request: web.Request) -> web.Response:
        READY.set(self._ready() is None)
        return web.Response(body=render(), headers={hdrs.CONTENT_TYPE: CONTENT_TYPE})
