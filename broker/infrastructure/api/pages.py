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
"""The Content Security Policy of pages without scripts."""


class SafeHTML(str):
    """A part of a page that is HTML already, and is not escaped."""

    __slots__ = ()


class HTMLPage:
    """An HTML template.  Values are escaped, apart from `SafeHTML`.

    path: of the template, with `$name` placeholders.
    image_source: the CSP source of images, apart from `data:` URLs.
    policy: the CSP; `{images}` is the image source, `{ancestors}` the pages that may frame it.
    referrer_policy: with `no-referrer`, browsers send `Origin: null` with the page's forms.
    """

    def __init__(
        self,
        path: Path,
        *,
        image_source: str = "'self'",
        policy: str = PAGE_POLICY,
        referrer_policy: str = "no-referrer",
    ) -> None:
        self._template = Template(path.read_text(encoding="utf-8"))
        self._policy = policy
        self._image_source = image_source
        self._headers = {
            "Referrer-Policy": referrer_policy,
            hdrs.CACHE_CONTROL: "no-store",
        }

    def render(
        self,
        values: Mapping[str, str],
        *,
        status: int = 200,
        image_origin: str = "",
        frame_origin: str = "",
    ) -> web.Response:
        """image_origin: of an image besides those of the page; empty for none.

        frame_origin: of the pages that may frame this one; empty for none.
        """
        images = f"{self._image_source} {image_origin}".rstrip()
        policy = self._policy.format(images=images, ancestors=frame_origin or "'none'")
        escaped = {name: escape(value) for name, value in values.items()}
        return web.Response(
            text=self._template.substitute(escaped),
            content_type="text/html",
            status=status,
            headers={**self._headers, "Content-Security-Policy": policy},
        )


def escape(text: str) -> SafeHTML:
    """Return `text` as HTML."""
    return text if isinstance(text, SafeHTML) else SafeHTML(html.escape(text))


def preferred_language(request: web.Request) -> str:
    """Return `zh` or `en`, the first of them in `Accept-Language`; `en` without either."""
    for part in request.headers.get(hdrs.ACCEPT_LANGUAGE, "").lower().split(","):
        for language in ("zh", "en"):
            if part.strip().startswith(language):
                return language
    return "en"
