"""The hooks of the documentation site; `make docs` builds the site itself."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from tools.docs_hooks import external_assets, on_config, structure_difference


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


def test_translated_pages_follow_in_the_navigation(tmp_path: Path) -> None:
    (tmp_path / "zh").mkdir()
    for name in ("widget.md", "quick-start.md"):
        (tmp_path / "zh" / name).touch()
    nav = [{"Home": "index.md"}, {"Tutorials": ["quick-start.md"]}, {"Reference": ["widget.md"]}]
    config = SimpleNamespace(nav=nav, docs_dir=str(tmp_path), extra={})

    on_config(config)

    assert config.nav[-1] == {"中文": ["zh/quick-start.md", "zh/widget.md"]}
    assert [one["link"] for one in config.extra["alternate"]] == [".", "zh/quick-start/"]


def test_navigation_without_translations_is_unchanged(tmp_path: Path) -> None:
    config = SimpleNamespace(nav=[{"Home": "index.md"}], docs_dir=str(tmp_path), extra={})

    on_config(config)

    assert config.nav == [{"Home": "index.md"}]
    assert config.extra == {}
