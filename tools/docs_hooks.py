"""MkDocs hooks of the documentation site; see mkdocs.yml.

- The pages of docs/zh/ follow in the navigation, in the order of the English pages. The language
  selector leads to the same page in the other language.
- A page that loads an asset from another host is a warning, which fails `make docs`.
- A page whose lists, tables or code blocks differ from GitHub's is a warning, too. Python-Markdown
  needs a blank line before a list, and an indentation of 4 spaces in it.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

CHINESE = "zh"
ALTERNATE_LINK = re.compile(r'<link rel="alternate"[^>]*>')
ASSET_ATTRIBUTES = {
    "iframe": "src",
    "img": "src",
    "link": "href",
    "script": "src",
    "source": "src",
}
STRUCTURE = ("h1", "h2", "h3", "li", "ol", "pre", "table", "tr", "ul")
LINKS_WITHOUT_ASSET = {"alternate", "canonical", "next", "prev"}

StartTag = tuple[str, dict[str, str | None]]

log = logging.getLogger("mkdocs.hooks")  # warnings of this logger fail a strict build


def on_config(config: Any) -> None:
    """Add the Chinese pages to the navigation."""
    translated = [
        f"{CHINESE}/{page}" for page in pages(config.nav) if is_translated(page, config.docs_dir)
    ]
    if translated:
        config.nav.append({"中文": translated})


def is_translated(page: str, docs_dir: str) -> bool:
    return Path(docs_dir, CHINESE, page).exists()


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
    """Set the language of the theme's texts, and the links of the language selector."""
    config.theme["language"] = CHINESE if page.url.startswith(f"{CHINESE}/") else "en"
    config.extra["alternate"] = alternates(page, config.docs_dir)


def alternates(page: Any, docs_dir: str) -> list[dict[str, str]]:
    """Return the languages of a page. A page without a translation has the Chinese home page."""
    english = page.url.removeprefix(f"{CHINESE}/")
    source = page.file.src_uri.removeprefix(f"{CHINESE}/")
    translated = english if is_translated(source, docs_dir) else ""
    if not (translated or is_translated("index.md", docs_dir)):
        return []
    return [
        {"name": "English", "link": english or ".", "lang": "en"},
        {"name": "中文", "link": f"{CHINESE}/{translated}", "lang": CHINESE},
    ]


def on_page_content(html: str, page: Any, config: Any, files: Any) -> None:
    if difference := structure_difference(page.markdown, html):
        log.warning("%s differs from GitHub: %s", page.file.src_path, difference)


def structure_difference(markdown: str, html: str) -> str:
    """Compare the number of elements in `html` with GitHub's; return the differences, or ""."""
    github = elements(MarkdownIt("commonmark").enable("table").render(markdown))
    site = elements(html)
    different = [tag for tag in STRUCTURE if site[tag] != github[tag]]
    return ", ".join(f"{site[tag]} <{tag}>, not {github[tag]}" for tag in different)


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Check the assets, and remove the links that the theme's script reads.

    The script expects a site and a sitemap for each language. It would lead a click on a Chinese
    page to the Chinese home page.
    """
    for url in external_assets(output):
        log.warning("%s loads an asset from another host: %s", page.file.src_path, url)
    return ALTERNATE_LINK.sub("", output)


def external_assets(html: str) -> list[str]:
    """Return the URLs on other hosts that a browser loads with the page."""
    loaded = [
        values.get(ASSET_ATTRIBUTES[tag]) or ""
        for tag, values in start_tags(html)
        if tag in ASSET_ATTRIBUTES and values.get("rel") not in LINKS_WITHOUT_ASSET
    ]
    return [url for url in loaded if url.startswith(("http:", "https:", "//"))]


def elements(html: str) -> Counter[str]:
    return Counter(tag for tag, _ in start_tags(html))


def start_tags(html: str) -> list[StartTag]:
    reader = StartTagReader()
    reader.feed(html)
    return reader.tags


class StartTagReader(HTMLParser):
    """Collects the start tags of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[StartTag] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
