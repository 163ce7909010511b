"""Tests of values that are converted for display."""

from __future__ import annotations

import pytest

from broker.infrastructure.api.schema import sanitize_text
from broker.infrastructure.clock import seconds_until


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Firefox 小明 é", "Firefox 小明 é"),
        ("a\x00b\x1b[31mc\x85", "ab[31mc"),
        ("a\u202eb\u2066c\u200b", "abc"),
        ("no\xa0break", "no\xa0break"),
        ("x" * 300, "x" * 256),
        ("\u202e" + "x" * 300, "x" * 256),
    ],
)
def test_invisible_characters_are_removed_from_displayed_text(text: str, expected: str) -> None:
    assert sanitize_text(text, 256) == expected


@pytest.mark.parametrize(
    ("left", "expected"), [(120.0, 120), (120.05, 120), (119.2, 120), (0.3, 1), (0.0, 0), (-5.0, 0)]
)
def test_seconds_left_round_up_within_the_clock_error(left: float, expected: int) -> None:
    assert seconds_until(1_000.0 + left, 1_000.0) == expected
