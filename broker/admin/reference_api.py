"""The page that shows the OpenAPI documents of both ports with Swagger UI.

It calls no endpoint and takes no token: operators and developers read it only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from aiohttp import web

from broker.infrastructure.api.endpoint import ADMIN, Endpoint
from broker.infrastructure.api.pages import HTMLPage
from broker.infrastructure.api.static import serve_own_file

STATIC = Path(__file__).parent / "static"

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Swagger UI needs no inline script or style, and no `eval`. Its icons are `data:` URLs."""

FILES: Mapping[str, tuple[Path, str]] = {
    "reference.js": (STATIC / "reference.js", "text/javascript"),
    "reference.css": (STATIC / "reference.css", "text/css"),
    "swagger-ui-bundle.js": (STATIC / "vendor/swagger-ui-bundle.js", "text/javascript"),
    "swagger-ui.css": (STATIC / "vendor/swagger-ui.css", "text/css"),
}


class ReferencePageAPI:
    def __init__(self) -> None:
        self._page = HTMLPage(STATIC / "reference.html", policy=PAGE_POLICY)
        self._files = {name: serve_own_file(*file) for name, file in FILES.items()}

    async def page(self, request: web.Request) -> web.Response:
        return self._page.render({})

    async def file(self, request: web.Request, *, file: str) -> web.StreamResponse:
        return await self._files[file](request)


ENDPOINTS = [
    Endpoint(
        "GET",
        "/api",
        ReferencePageAPI.page,
        role=ADMIN,
        operation_id="showReference",
        summary="The page that shows the OpenAPI documents",
        response="text/html",
    ),
    Endpoint(
        "GET",
        f"/api/{{file:{'|'.join(map(re.escape, FILES))}}}",
        ReferencePageAPI.file,
        role=ADMIN,
        operation_id="getReferenceFile",
        summary="A file of the page that shows the OpenAPI documents",
        response="text/*",
    ),
]
