"""The broker's own HTML pages and their Content Security Policy."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path
from string import Template

from aiohttp import hdrs, web

PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; img-src data: {images}; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)


class HTMLPage:
    """An HTML template.  Values are escaped, and the CSP forbids scripts.

    path: of the template, with `$name` placeholders.
    image_source: the CSP source of images, apart from `data:` URLs.
    """

    def __init__(self, path: Path, *, image_source: str = "'self'") -> None:
        self._policy = PAGE_POLICY.format(images=image_source)
        self._template = Template(path.read_text(encoding="utf-8"))

    def render(self, values: Mapping[str, str], *, status: int = 200) -> web.Response:
        escaped = {name: html.escape(value) for name, value in values.items()}
        headers = {
            "Content-Security-Policy": self._policy,
            "Referrer-Policy": "no-referrer",
            hdrs.CACHE_CONTROL: "no-store",
        }
        return web.Response(
            text=self._template.substitute(escaped),
            content_type="text/html",
            status=status,
            headers=headers,
        )


def preferred_language(request: web.Request) -> str:
    """Return `zh` or `en`, the first of them in `Accept-Language`; `en` without either."""
    for part in request.headers.get(hdrs.ACCEPT_LANGUAGE, "").lower().split(","):
        for language in ("zh", "en"):
            if part.strip().startswith(language):
                return language
    return "en"
