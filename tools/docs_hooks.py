"""MkDocs hooks of the documentation site; see mkdocs.yml.

- The pages of docs/zh/ follow in the navigation, in the order of the English pages.
- A page that loads an asset from another host is a warning, which fails `make docs`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

CHINESE = "zh"
ASSET_ATTRIBUTES = {
    "iframe": "src",
    "img": "src",
    "link": "href",
    "script": "src",
    "source": "src",
}
LINKS_WITHOUT_ASSET = {"alternate", "canonical", "next", "prev"}

log = logging.getLogger("mkdocs.hooks")  # warnings of this logger fail a strict build


def on_config(config: Any) -> None:
    """Add the Chinese pages to the navigation, and the language selector if there are any."""
    translated = [
        f"{CHINESE}/{page}"
        for page in pages(config.nav)
        if Path(config.docs_dir, CHINESE, page).exists()
    ]
    if translated:
        config.nav.append({"中文": translated})
        home = translated[0].removesuffix("index.md").replace(".md", "/")
        config.extra["alternate"] = [
            {"name": "English", "link": ".", "lang": "en"},
            {"name": "中文", "link": home, "lang": CHINESE},
        ]


def pages(nav: Any) -> Iterator[str]:
    """Yield the paths in a navigation, in order."""
    match nav:
        case str():
            yield nav
        case list():
            for entry in nav:
                yield from pages(entry)
        case dict():
            for entry in nav.values():
                yield from pages(entry)


def on_page_context(context: Any, page: Any, config: Any, nav: Any) -> None:
    """Show the theme's own words in the language of the page."""
    config.theme["language"] = CHINESE if page.url.startswith(f"{CHINESE}/") else "en"


def on_post_page(output: str, page: Any, config: Any) -> None:
    for url in external_assets(output):
        log.warning("%s loads an asset from another host: %s", page.file.src_path, url)


def external_assets(html: str) -> list[str]:
    finder = AssetFinder()
    finder.feed(html)
    return [url for url in finder.urls if url.startswith(("http:", "https:", "//"))]


class AssetFinder(HTMLParser):
    """Collects the URLs that a browser loads with a page."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        url = values.get(ASSET_ATTRIBUTES.get(tag, ""))
        if url and values.get("rel") not in LINKS_WITHOUT_ASSET:
            self.urls.append(url)
