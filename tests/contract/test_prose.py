"""Tracked text is plain English: it has none of the phrases in tests/support/prose.toml.

`python -m tests.support.prose [PATH...]` prints the matches.
"""

from __future__ import annotations

import pytest

from tests.support.prose import ALLOWED, Pattern, Report, matches_in, patterns, report
from tests.support.prose_text import AREAS, COMMENTS, DOCS, STRINGS, TESTS, Text, texts

HIGHEST_RATE = 1.0
"""Matches per 1 000 words over the whole tree."""


@pytest.fixture(scope="module")
def tree() -> Report:
    return report()


def test_tracked_text_has_no_avoided_phrase(tree: Report) -> None:
    assert not tree.matches, "\n".join(map(str, tree.matches))


def test_tracked_text_has_low_phrase_rate(tree: Report) -> None:
    print(tree.table())

    assert tree.rate() < HIGHEST_RATE


def test_allowed_phrases_exist(tree: Report) -> None:
    assert tree.allowed == set(ALLOWED)
    assert all(ALLOWED.values())


def found_in(text: str, pattern: Pattern) -> bool:
    found = matches_in("a.py", [Text(area, 1, text) for area in pattern.areas])
    return pattern in {match.pattern for match in found}


def test_patterns_match_their_examples() -> None:
    unmatched = [
        (pattern.id, text)
        for pattern in patterns()
        for text in pattern.found
        if not found_in(text, pattern)
    ]

    assert unmatched == []


def test_patterns_pass_normal_english() -> None:
    matched = [
        (pattern.id, text)
        for pattern in patterns()
        for text in pattern.passed
        if found_in(text, pattern)
    ]

    assert matched == []


def test_pattern_ids_and_areas_are_valid() -> None:
    ids = [pattern.id for pattern in patterns()]

    assert len(ids) == len(set(ids))
    assert all(pattern.hint and set(pattern.areas) <= set(AREAS) for pattern in patterns())


PYTHON = '''"""Module text."""
# first line
# second line
NAME = "single"  # trailing text
LONG = f"value of {NAME} in words"
def test_one_thing(): ...
'''
IN_PYTHON = {
    (COMMENTS, 1, "Module text."),
    (COMMENTS, 2, "first line\nsecond line"),
    (COMMENTS, 4, "trailing text"),
    (STRINGS, 5, "value of {} in words"),
    (STRINGS, 6, "test one thing"),
}
MARKDOWN = """# A title

one `code`
two
```
code  # comment text
```
"""
IN_MARKDOWN = {(DOCS, 1, "# A title"), (DOCS, 3, "one ``\ntwo"), (DOCS, 6, "comment text")}
JAVASCRIPT = """let a = 'two words'; // text
/* more
 * text */"""
IN_JAVASCRIPT = {(STRINGS, 1, "two words"), (COMMENTS, 1, "text"), (COMMENTS, 2, "more\ntext")}
PAGE = "<p>two words</p>\n<!-- text -->"
IN_PAGE = {(STRINGS, 1, "two words"), (COMMENTS, 2, " text ")}
YAML = "name: two words  # text\n# more\nport: 80"
IN_YAML = {(STRINGS, 1, "two words"), (COMMENTS, 1, "text"), (COMMENTS, 2, "more")}
MAKEFILE = "help: ## two words\n# text"
IN_MAKEFILE = {(STRINGS, 1, "two words"), (COMMENTS, 2, "text")}


@pytest.mark.parametrize(
    ("path", "source", "expected"),
    [
        pytest.param("broker/a.py", PYTHON, IN_PYTHON, id="python"),
        pytest.param("tests/a.py", "# text", {(TESTS, 1, "text")}, id="tests"),
        pytest.param("docs/a.md", MARKDOWN, IN_MARKDOWN, id="markdown"),
        pytest.param("a.js", JAVASCRIPT, IN_JAVASCRIPT, id="javascript"),
        pytest.param("a.html", PAGE, IN_PAGE, id="page"),
        pytest.param("a.css", "a {} /* text */", {(COMMENTS, 1, "text")}, id="css"),
        pytest.param("a.conf", "a b#c; # text", {(COMMENTS, 1, "text")}, id="conf"),
        pytest.param("a.yml", YAML, IN_YAML, id="yaml"),
        pytest.param("Makefile", MAKEFILE, IN_MAKEFILE, id="makefile"),
        pytest.param("a/vendor/b.js", "// text", set(), id="vendored"),
        pytest.param("package-lock.json", '{"a": "two words"}', set(), id="lock-file"),
    ],
)
def test_extraction_finds_text_with_line(
    path: str, source: str, expected: set[tuple[str, int, str]]
) -> None:
    assert {tuple(text) for text in texts(path, source)} == expected
