"""What anybody may ask: key set, codes' pictures, health, version, metrics, the widget."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

from aiohttp import hdrs, web

from broker import __version__, metrics
from broker.edge.addresses import Addresses
from broker.edge.pages import STATIC, Page, language
from broker.edge.wire import Handler, answer, refusal
from broker.errors import NoPicture, Unavailable
from broker.pictures import CACHE_CONTROL, Shown, media_type_of
from broker.tokens import KEY_SET_MAX_AGE, Issuer

KEY_SET = "/.well-known/jwks.json"


class File(NamedTuple):
    """A file under static/: its media type, and how many seconds it may be kept unasked."""

    name: str
    media_type: str
    max_age: int


FILES: Mapping[str, File] = {
    "/scan-login.js": File("scan-login.js", "text/javascript", 300),
    "/socket.io/socket.io.min.js": File("vendor/socket.io.min.js", "text/javascript", 86_400),
    "/socket.io/socket.io.esm.min.js": File(
        "vendor/socket.io.esm.min.js", "text/javascript", 86_400
    ),
    "/page.css": File("page.css", "text/css", 300),
}

FOR_ANY_SITE: Mapping[str, str] = {
    hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
}

PICTURE: Mapping[str, str] = {
    **FOR_ANY_SITE,
    hdrs.CACHE_CONTROL: CACHE_CONTROL,
    # An SVG that is opened by itself is a page: it may do nothing.
    "Content-Security-Policy": "default-src 'none'; sandbox",
}

INDEX = {
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

Readiness = Callable[[], str | None]
"""Why this instance should get no browsers now; None when it should."""


class PublicEdge:
    def __init__(
        self,
        *,
        issuer: Issuer,
        ready: Readiness,
        public_url: str,
        pictures: Shown,
        addresses: Addresses,
    ) -> None:
        self._issuer = issuer
        self._ready = ready
        self._public_url = public_url
        self._pictures = pictures
        self._addresses = addresses
        self._page = Page("index.html")

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self._index),
            web.get(KEY_SET, self._key_set),
            web.get("/codes/{key}", self._picture),
            *self.health_routes(),
            *(web.get(path, _served(file)) for path, file in FILES.items()),
        ]

    def admin_routes(self) -> list[web.RouteDef]:
        return [web.get("/metrics", self._metrics), *self.health_routes()]

    def health_routes(self) -> list[web.RouteDef]:
        return [
            web.get("/health/live", _live),
            web.get("/health/ready", self._readiness),
            web.get("/version", _version),
        ]

    async def _index(self, request: web.Request) -> web.Response:
        words = INDEX[language(request)]
        return self._page.show({**words, "public_url": self._public_url})

    async def _key_set(self, request: web.Request) -> web.Response:
        headers: dict[str, str] = {
            hdrs.CACHE_CONTROL: f"public, max-age={KEY_SET_MAX_AGE}",
            hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*",
        }
        return answer(self._issuer.key_set(), headers)

    async def _picture(self, request: web.Request) -> web.Response:
        key = request.match_info["key"]
        content = await self._pictures.get(key, self._addresses.of(request))
        if content is None:
            raise NoPicture
        headers = {**PICTURE, hdrs.ETAG: f'"{key}"'}  # what has a key is never changed
        if _is_known(request, key):
            return web.Response(status=304, headers=headers)
        return web.Response(body=content, content_type=media_type_of(key), headers=headers)

    async def _readiness(self, request: web.Request) -> web.Response:
        reason = self._ready()
        if reason is not None:
            return refusal(Unavailable(reason))
        return _fresh({"status": "ready"})

    async def _metrics(self, request: web.Request) -> web.Response:
        metrics.READY.set(self._ready() is None)
        return web.Response(
            body=metrics.exposition(), headers={hdrs.CONTENT_TYPE: metrics.CONTENT_TYPE}
        )


async def _live(request: web.Request) -> web.Response:
    return _fresh({"status": "live"})


async def _version(request: web.Request) -> web.Response:
    return _fresh({"name": "scan-login-broker", "version": __version__})


def _fresh(body: Mapping[str, str]) -> web.Response:
    return answer(body, {hdrs.CACHE_CONTROL: "no-store"})


def _served(file: File) -> Handler:
    """A handler that serves `file` from memory, to pages of any site."""
    content = (STATIC / file.name).read_bytes()
    tag = hashlib.sha256(content).hexdigest()[:32]
    headers = {
        hdrs.CACHE_CONTROL: f"public, max-age={file.max_age}",
        hdrs.ETAG: f'"{tag}"',
        **FOR_ANY_SITE,
    }

    async def serve(request: web.Request) -> web.Response:
        if _is_known(request, tag):
            return web.Response(status=304, headers=headers)
        return web.Response(
            body=content, content_type=file.media_type, charset="utf-8", headers=headers
        )

    return serve


def _is_known(request: web.Request, tag: str) -> bool:
    """Whether whoever asks has it already."""
    return any(known.value in (tag, "*") for known in request.if_none_match or ())
