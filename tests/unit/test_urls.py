"""Hosts in URLs."""

from __future__ import annotations

import pytest

from broker.infrastructure.urls import url_host
from web_demo.__main__ import url_of


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", "127.0.0.1"), ("login.example", "login.example"), ("::1", "[::1]")],
)
def test_url_has_ipv6_address_in_brackets(host: str, expected: str) -> None:
    assert url_host(host) == expected
    assert url_of(host, 8080) == f"http://{expected}:8080"
