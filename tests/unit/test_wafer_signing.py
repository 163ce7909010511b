"""Wafer's signatures."""

from __future__ import annotations

from broker.wafer.signing import client_id, is_signed, signature

KEY = "9f338d1f0ecc37d25ac7b161c1d7bf72"

DATA = '{"receiveUrl":"http://127.0.0.1/tunnel","protocolType":"wss"}'

SIGNATURE = "e0f2293e1c941c734197eb082df33f4f3ff6996f"
"""As the npm package qcloud-weapp-server-sdk 0.8.2 computes it."""


def test_signature_equals_that_of_the_sdk() -> None:
    assert signature(DATA, KEY) == SIGNATURE


def test_client_id_equals_that_of_the_sdk() -> None:
    assert client_id("127.0.0.1") == "f528764d624db129b32c21fbca0cb8d6"


def test_signature_of_changed_text_is_refused() -> None:
    assert is_signed(DATA, SIGNATURE, KEY)
    assert not is_signed(DATA + " ", SIGNATURE, KEY)


def test_signature_with_another_key_is_refused() -> None:
    assert not is_signed(DATA, SIGNATURE, KEY[::-1])


def test_text_that_is_not_unicode_is_refused() -> None:
    assert not is_signed("\ud800", SIGNATURE, KEY)
    assert not is_signed(DATA, "\ud800", KEY)
