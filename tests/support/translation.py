"""Compares the structure of a translated page with that of the English page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path

from tests.support.markdown import Page

CHINESE_README = "README.zh-CN.md"
CHINESE_FOLDER = Path("docs", "zh")


def translations(root: Path) -> Mapping[Path, Path]:
    """The translated pages and their English pages, which may not exist."""
    folder = root / CHINESE_FOLDER
    pages = {page: root / "docs" / page.relative_to(folder) for page in folder.rglob("*.md")}
    readme = root / CHINESE_README
    return {**pages, readme: root / "README.md"} if readme.exists() else pages


def differences(english: str, translated: str) -> list[str]:
    """State where the structure of `translated` deviates from `english`.

    Equal must be: the levels of the headings, the code spans in the first column of each
    table, and the code blocks without their comments.
    """
    return list(_differences(Page(english), Page(translated)))


def _differences(english: Page, translated: Page) -> Iterator[str]:
    for name, expected, actual in (
        ("heading", _levels(english), _levels(translated)),
        ("first column of table", english.first_columns(), translated.first_columns()),
        ("code block", _code(english), _code(translated)),
    ):
        for number, (english_part, translated_part) in enumerate(zip_longest(expected, actual), 1):
            if english_part != translated_part:
                yield f"{name} {number}: {translated_part!r} instead of {english_part!r}"


def _levels(page: Page) -> list[int]:
    return [heading.level for heading in page.headings()]


def _code(page: Page) -> list[tuple[str, str]]:
    return [block.without_comments() for block in page.code_blocks()]
