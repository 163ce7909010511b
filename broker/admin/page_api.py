"""The admin page: one HTML file, one style sheet, and ES modules.

`admin.js` imports the modules of `static/admin`: one for each view, and what they share.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from aiohttp import web

from broker.infrastructure.api.endpoint import ADMIN, BoundHandler, Endpoint
from broker.infrastructure.api.pages import HTMLPage
from broker.infrastructure.api.static import serve_own_file
from broker.infrastructure.fields import normalize_origin

STATIC = Path(__file__).parent / "static"

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self' {images}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

JAVASCRIPT = "text/javascript"


class PageFile(NamedTuple):
    media_type: str
    operation_id: str


FILES = {
    "admin.js": PageFile(JAVASCRIPT, "getAdminScript"),
    "admin.css": PageFile("text/css", "getAdminStyles"),
}

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
        self._files = {
            name: serve_own_file(STATIC / name, file.media_type) for name, file in FILES.items()
        }
        self._modules = {
            name: serve_own_file(STATIC / "admin" / name, JAVASCRIPT) for name in MODULES
        }

    async def page(self, request: web.Request) -> web.Response:
        return self._page.render(self._values)

    async def file(self, name: str, request: web.Request) -> web.StreamResponse:
        return await self._files[name](request)

    async def module(self, request: web.Request, name: str) -> web.StreamResponse:
        if name not in self._modules:
            raise web.HTTPNotFound
        return await self._modules[name](request)


def _handler(name: str) -> BoundHandler:
    async def serve(api: AdminPageAPI, request: web.Request) -> web.StreamResponse:
        return await api.file(name, request)

    return serve


ENDPOINTS = [
    Endpoint(
        "GET",
        "/",
        AdminPageAPI.page,
        role=ADMIN,
        operation_id="showAdminPage",
        summary="The admin page",
        response="text/html",
    ),
    *(
        Endpoint(
            "GET",
            f"/{name}",
            _handler(name),
            role=ADMIN,
            operation_id=file.operation_id,
            summary="A file of the admin page",
            response=file.media_type,
        )
        for name, file in FILES.items()
    ),
    Endpoint(
        "GET",
        "/admin/{name}",
        AdminPageAPI.module,
        role=ADMIN,
        operation_id="getAdminModule",
        summary="A module of the admin page",
        response=JAVASCRIPT,
    ),
]
