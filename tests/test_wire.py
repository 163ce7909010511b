"""What stands on the wire as it is shown to people."""

from __future__ import annotations

import pytest

from broker.edge.wire import plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Firefox 小明 é", "Firefox 小明 é"),
        ("a\x00b\x1b[31mc\x85", "ab[31mc"),
        ("a\u202eb\u2066c\u200b", "abc"),
        ("no\xa0break", "no\xa0break"),
        ("x" * 300, "x" * 256),
        ("\u202e" + "x" * 300, "x" * 256),
    ],
)
def test_text_from_outside_is_shown_without_what_cannot_be_seen(text: str, shown: str) -> None:
    assert plain(text, 256) == shown
