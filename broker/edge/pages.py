"""The broker's own pages: what they are made of, and what may run in them."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path
from string import Template

from aiohttp import hdrs, web

STATIC = Path(__file__).parent / "static"

PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; img-src data: {images}; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)


class Page:
    """A template under static/.  Every value is escaped on its way in.

    images: where pictures come from that are no `data:`; below that URL, or of that origin.
    """

    def __init__(self, name: str, *, images: str = "'self'") -> None:
        self._policy = PAGE_POLICY.format(images=images)
        self._template = Template((STATIC / name).read_text(encoding="utf-8"))

    def show(self, values: Mapping[str, str], *, status: int = 200) -> web.Response:
        safe = {name: html.escape(value) for name, value in values.items()}
        headers = {
            "Content-Security-Policy": self._policy,
            "Referrer-Policy": "no-referrer",
            hdrs.CACHE_CONTROL: "no-store",
        }
        return web.Response(
            text=self._template.substitute(safe),
            content_type="text/html",
            status=status,
            headers=headers,
        )


def language(request: web.Request) -> str:
    """`zh` or `en`: whichever the reader names first."""
    for part in request.headers.get(hdrs.ACCEPT_LANGUAGE, "").lower().split(","):
        for known in ("zh", "en"):
            if part.strip().startswith(known):
                return known
    return "en"
