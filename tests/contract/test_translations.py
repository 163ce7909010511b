"""Translated pages have the structure of the English pages.

README.zh-CN.md translates README.md, and docs/zh/NAME.md translates docs/NAME.md. A link to a
page without a translation leads to ../NAME.md. In code blocks only comments are translated.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.environment import ROOT
from tests.support.translation import differences, translations

ENGLISH = """\
# Widget

| attribute | meaning |
|---|---|
| `app` | the app's id |
| `lang`, or the browser's | the language |

## The token

```js
// Send it to the backend.
show(token); // the access token
```
"""

CHINESE = """\
# 组件

| 属性 | 含义 |
|---|---|
| `app` | 应用的 id |
| `lang`，或浏览器的语言 | 语言 |

## 令牌

```js
// 发送给后端。
show(token); // 访问令牌
```
"""


def test_translations_have_the_english_structure() -> None:
    found = {
        str(page.relative_to(ROOT)): differences(english.read_text(), page.read_text())
        for page, english in translations(ROOT).items()
        if english.exists()
    }

    assert {page: some for page, some in found.items() if some} == {}


def test_every_translation_has_an_english_page() -> None:
    pages = translations(ROOT)

    assert [page for page, english in pages.items() if not english.exists()] == []


def test_translations_are_paired_by_file_name(tmp_path: Path) -> None:
    (tmp_path / "docs/zh").mkdir(parents=True)
    for name in ("README.zh-CN.md", "docs/zh/widget.md"):
        (tmp_path / name).touch()

    assert translations(tmp_path) == {
        tmp_path / "README.zh-CN.md": tmp_path / "README.md",
        tmp_path / "docs/zh/widget.md": tmp_path / "docs/widget.md",
    }


def test_missing_translations_are_allowed(tmp_path: Path) -> None:
    assert translations(tmp_path) == {}


def test_equal_structure_has_no_differences() -> None:
    assert differences(ENGLISH, CHINESE) == []


@pytest.mark.parametrize(
    ("part", "replacement", "difference"),
    [
        ("## 令牌", "### 令牌", "heading 2: 3 instead of 2"),
        ("## 令牌", "令牌", "heading 2: None instead of 2"),
        ("## 令牌", "## 令牌\n\n## 事件", "heading 3: 2 instead of None"),
        ("| `app` |", "| `application` |", "first column of table 1"),
        ("| `app` |", "| 应用 |", "first column of table 1"),
        ("| `app` | 应用的 id |\n", "", "first column of table 1"),
        ("|---|---|\n", "", "first column of table 1: None"),
        ("show(token)", "show(tokens)", "code block 1"),
        ("```js", "```ts", "code block 1"),
        ("show(token);", "show(token);\nhide();", "code block 1"),
        ("```js\n// 发送给后端。\nshow(token); // 访问令牌\n```\n", "", "code block 1: None"),
    ],
)
def test_deviating_structure_is_reported(part: str, replacement: str, difference: str) -> None:
    assert part in CHINESE

    [found] = differences(ENGLISH, CHINESE.replace(part, replacement))

    assert found.startswith(difference)
