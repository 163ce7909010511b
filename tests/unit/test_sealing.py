"""Values that are derived from the seal keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.infrastructure.crypto.sealing import SecretBox

OLD, NEW = b"o" * 32, b"n" * 32


def box(*keys: bytes) -> SecretBox:
    """keys: the newest first."""
    box = SecretBox(lambda: keys)
    box.load()
    return box


def test_derived_value_is_the_same_in_every_instance() -> None:
    assert box(NEW).derive("code", "a", "b") == box(NEW, OLD).derive("code", "a", "b")
    assert len(box(NEW).derive("code")) == 32


@pytest.mark.parametrize(
    ("purpose", "parts"),
    [
        ("cookie", ("a", "b")),
        ("code", ("ab",)),
        ("code", ("a", "b", "")),
        ("code", ("", "ab")),
        ("code", ("b", "a")),
        ("code1:a", ("b",)),
        ("code", ("a1:b",)),
    ],
)
def test_other_input_derives_another_value(purpose: str, parts: tuple[str, ...]) -> None:
    assert box(NEW).derive(purpose, *parts) != box(NEW).derive("code", "a", "b")


WORDS = st.lists(st.text(st.characters(codec="utf-8"), max_size=4), min_size=1, max_size=4)


@given(one=WORDS, two=WORDS)
def test_encoding_of_the_parts_is_unambiguous(one: list[str], two: list[str]) -> None:
    assert (box(NEW).derive(*one) == box(NEW).derive(*two)) == (one == two)


def test_value_of_a_former_key_is_recognised() -> None:
    mac = box(OLD).derive("device", "alice")

    assert box(NEW, OLD).derives(mac, "device", "alice")
    assert not box(NEW).derives(mac, "device", "alice")
    assert not box(NEW, OLD).derives(mac, "device", "bob")
    assert not box(NEW, OLD).derives(mac[:31], "device", "alice")
    assert not box(NEW, OLD).derives(b"", "device", "alice")


def test_newest_key_derives() -> None:
    assert box(NEW, OLD).derive("code") == box(NEW).derive("code") != box(OLD).derive("code")
