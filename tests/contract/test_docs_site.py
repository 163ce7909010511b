"""The hooks of the documentation site; `make docs` builds the site itself."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support.environment import ROOT
from tools.docs_hooks import (
    alternates,
    external_assets,
    on_config,
    on_post_page,
    structure_difference,
)

MKDOCS = (ROOT / "mkdocs.yml").read_text()


@pytest.mark.parametrize(
    "html",
    [
        "<script src='https://cdn.example/x.js'></script>",
        "<link rel=stylesheet href='https://fonts.example/x.css'>",
        "<link rel=preconnect href='https://fonts.example'>",
        "<img src='//cdn.example/x.png'>",
    ],
)
def test_asset_on_another_host_is_found(html: str) -> None:
    assert len(external_assets(f"<!doctype html>{html}")) == 1


@pytest.mark.parametrize(
    "html",
    [
        "<a href='https://site.example'>a site</a>",
        "<link rel=canonical href='https://docs.example/'>",
        "<script src='../assets/x.js'></script>",
        "<script>let x = 1;</script>",
    ],
)
def test_other_urls_are_allowed(html: str) -> None:
    assert external_assets(html) == []


def test_structure_is_compared_with_github() -> None:
    markdown = "a list:\n- one\n- two\n"

    assert structure_difference(markdown, "<p>a list:</p><ul><li>one</li><li>two</li></ul>") == ""
    assert structure_difference(markdown, "<p>a list: - one - two</p>") == (
        "0 <li>, not 2, 0 <ul>, not 1"
    )


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    (tmp_path / "zh").mkdir()
    for name in ("index.md", "widget.md"):
        (tmp_path / "zh" / name).touch()
    return tmp_path


def test_translated_pages_follow_in_the_navigation(docs: Path) -> None:
    nav = [{"Home": "index.md"}, {"Tutorials": ["quick-start.md"]}, {"Reference": ["widget.md"]}]
    config = SimpleNamespace(nav=nav, docs_dir=str(docs))

    on_config(config)

    assert config.nav[-1] == {"中文": ["zh/index.md", "zh/widget.md"]}


def test_navigation_without_translations_is_unchanged(tmp_path: Path) -> None:
    config = SimpleNamespace(nav=[{"Home": "index.md"}], docs_dir=str(tmp_path))

    on_config(config)

    assert config.nav == [{"Home": "index.md"}]


def page(source: str, url: str) -> SimpleNamespace:
    return SimpleNamespace(url=url, file=SimpleNamespace(src_uri=source, src_path=source))


@pytest.mark.parametrize(
    ("source", "url", "links"),
    [
        ("index.md", "", [".", "zh/"]),
        ("widget.md", "widget/", ["widget/", "zh/widget/"]),
        ("zh/widget.md", "zh/widget/", ["widget/", "zh/widget/"]),
        ("pool.md", "pool/", ["pool/", "zh/"]),
    ],
)
def test_language_selector_leads_to_the_same_page(
    docs: Path, source: str, url: str, links: list[str]
) -> None:
    assert [language["link"] for language in alternates(page(source, url), str(docs))] == links


def test_page_without_any_translation_has_no_selector(tmp_path: Path) -> None:
    assert alternates(page("widget.md", "widget/"), str(tmp_path)) == []


def test_alternate_links_are_removed() -> None:
    html = '<link rel="alternate" href="zh/" hreflang="zh"><link rel="icon" href="x.png">'

    assert on_post_page(html, page("widget.md", "widget/"), None) == (
        '<link rel="icon" href="x.png">'
    )


def test_search_finds_chinese_words_inside_a_sentence() -> None:
    """The search of the theme matches prefixes of tokens; each Chinese character starts a token."""
    [separator] = re.findall(r"^ +separator: '(.*)'$", MKDOCS, re.MULTILINE)

    tokens = [token for token in re.split(separator, "访问令牌，JWT") if token]

    assert tokens == ["访", "问", "令", "牌", "JWT"]
