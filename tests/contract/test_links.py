"""Links between the pages of the repository lead to files and headings that exist."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from tests.support.environment import ROOT
from tests.support.markdown import Page

DOCS = ROOT / "docs"
OTHERS = ("bench/RESULTS.md", "mp_stub/miniprogram/README.md")
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob(".github/**/*.md"),
        *DOCS.rglob("*.md"),
        *(ROOT / name for name in OTHERS),
    ]
)


@cache
def parsed(path: Path) -> Page:
    return Page(path.read_text())


def broken_links(path: Path) -> list[str]:
    return [link for link in parsed(path).links() if is_internal(link) and is_broken(path, link)]


def is_internal(link: str) -> bool:
    return ":" not in link.partition("#")[0]


def is_broken(path: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = (path.parent / name).resolve() if name else path
    if anchor and target.suffix == ".md" and target.exists():
        return anchor not in parsed(target).anchors()
    return not target.exists()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_existing_headings(path: Path) -> None:
    assert broken_links(path) == []


@pytest.mark.parametrize(
    "path", sorted(DOCS.rglob("*.md")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_documentation_links_stay_in_docs(path: Path) -> None:
    """The documentation site has only the pages of docs/."""
    links = [link.partition("#")[0] for link in parsed(path).links() if is_internal(link)]

    assert [link for link in links if not (path.parent / link).resolve().is_relative_to(DOCS)] == []


def test_index_links_to_every_page() -> None:
    pages = {path.name for path in DOCS.glob("*.md")} - {"index.md"}

    assert set(parsed(DOCS / "index.md").links()) == pages | {"decisions/README.md"}


def test_broken_links_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One\n\n## A `code` & more\n\n## One\n\n## 注册\n\n"
        "[1](missing.md) [2](page.md#two) [3](#three) ![4](missing.png)\n"
        "[5](page.md#a-code--more) [6](#one-1) [7](https://site.example/x.md) [8](#注册)\n"
    )

    assert broken_links(page) == ["missing.md", "page.md#two", "#three", "missing.png"]
