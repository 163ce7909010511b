"""Log lines in JSON: text that people read, and characters that a terminal interprets."""

from __future__ import annotations

import json

import pytest

from broker.infrastructure.observability.logging import JSON_LINE, rendered_by


def line_of(text: str) -> str:
    return str(rendered_by(JSON_LINE)(None, "info", {"event": "x", "reason": text}))


@pytest.mark.parametrize("text", ["choose another with PORT=…", "小明", "café 🙂"])
def test_text_beyond_ascii_is_readable(text: str) -> None:
    assert text in line_of(text)


@pytest.mark.parametrize(
    "text",
    ["\x1b[2J", "\x9b2J", "a\nb", "\x85", "\u2028", "\u202e", "\x7f", "\U000e0001", "\udc80"],
)
def test_character_that_terminals_interpret_is_escaped(text: str) -> None:
    line = line_of(text)

    assert line.isprintable()
    assert json.loads(line)["reason"] == text
