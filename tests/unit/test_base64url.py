"""The form of 256 bits in BASE64URL."""

from __future__ import annotations

import secrets

import pytest

from broker.infrastructure.base64url import is_256_bits


def test_random_secret_has_256_bits() -> None:
    assert is_256_bits(secrets.token_urlsafe(32))


@pytest.mark.parametrize("text", ["", "a" * 42, "a" * 44, "a" * 42 + "=", "a" * 42 + "/"])
def test_other_text_has_not_256_bits(text: str) -> None:
    assert not is_256_bits(text)


def test_newline_after_256_bits_is_refused() -> None:
    assert not is_256_bits("a" * 43 + "\n")
