"""The admin page: one HTML file, one style sheet, and ES modules.

`admin.js` imports the modules of `static/admin`: one for each view, and what they share.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from aiohttp import hdrs, web

from broker.infrastructure.api.endpoint import ADMIN, Endpoint
from broker.infrastructure.api.pages import HTMLPage
from broker.infrastructure.api.static import is_not_modified
from broker.infrastructure.fields import normalize_origin

STATIC = Path(__file__).parent / "static"

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self' {images}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

JAVASCRIPT = "text/javascript"

FILES: Mapping[str, str] = {"admin.js": JAVASCRIPT, "admin.css": "text/css"}

MODULES = tuple(path.name for path in (STATIC / "admin").glob("*.js"))


class AdminPageAPI:
    """public_url: of the broker.  admin_url: of this page, to which a sign-in by scan returns.

    client_id: of the sign-in by scan; empty without it.
    """

    def __init__(self, *, public_url: str, admin_url: str, client_id: str) -> None:
        self._values = {"public_url": public_url, "admin_url": admin_url, "client_id": client_id}
        self._page = HTMLPage(
            STATIC / "admin.html", image_source=normalize_origin(public_url), policy=PAGE_POLICY
        )
        self._files = {name: _file(STATIC / name, media_type) for name, media_type in FILES.items()}
        self._modules = {name: _file(STATIC / "admin" / name, JAVASCRIPT) for name in MODULES}

    async def page(self, request: web.Request) -> web.Response:
        return self._page.render(self._values)

    async def file(self, name: str, request: web.Request) -> web.Response:
        return self._files[name].response(request)

    async def module(self, request: web.Request, name: str) -> web.Response:
        if name not in self._modules:
            raise web.HTTPNotFound
        return self._modules[name].response(request)


class _File(NamedTuple):
    content: bytes
    tag: str
    media_type: str

    def response(self, request: web.Request) -> web.Response:
        headers = {hdrs.CACHE_CONTROL: "no-cache", hdrs.ETAG: f'"{self.tag}"'}
        if is_not_modified(request, self.tag):
            return web.Response(status=304, headers=headers)
        return web.Response(
            body=self.content, content_type=self.media_type, charset="utf-8", headers=headers
        )


def _file(path: Path, media_type: str) -> _File:
    content = path.read_bytes()
    return _File(content, hashlib.sha256(content).hexdigest()[:32], media_type)


def _handler(name: str) -> Callable[[AdminPageAPI, web.Request], Awaitable[web.Response]]:
    async def serve(api: AdminPageAPI, request: web.Request) -> web.Response:
        return await api.file(name, request)

    return serve


ENDPOINTS = [
    Endpoint(
        "GET",
        "/",
        AdminPageAPI.page,
        role=ADMIN,
        summary="The admin page",
        response="text/html",
    ),
    *(
        Endpoint(
            "GET",
            f"/{name}",
            _handler(name),
            role=ADMIN,
            summary="A file of the admin page",
            response=media_type,
        )
        for name, media_type in FILES.items()
    ),
    Endpoint(
        "GET",
        "/admin/{name}",
        AdminPageAPI.module,
        role=ADMIN,
        summary="A module of the admin page",
        response=JAVASCRIPT,
    ),
]
