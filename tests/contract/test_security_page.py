"""Each attack in docs/security.md names tests that exist."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

import pytest

from tests.support.environment import ROOT

PAGE = (ROOT / "docs/security.md").read_text()
TABLE = PAGE.partition("## What an attacker can and cannot do")[2].partition("\n## ")[0]
ROWS = [line.strip("|").split(" | ") for line in TABLE.splitlines() if line.startswith("| ")][1:]

ATTACKS_OF_OIDC: Mapping[str, str] = {
    "mix-up": "(mix-up)",
    "code injection": "(code injection)",
    "code replay": "sends a code a second time",
    "PKCE downgrade": "(PKCE downgrade)",
    "open redirect": "`redirect_uri` of `//evil.example`",
    "login CSRF": "(login CSRF)",
    "clickjacking": "(clickjacking)",
    "cookie tossing": "(cookie tossing)",
    "request object smuggling": "(request object smuggling)",
    "token of another app": "another app's access or refresh token",
    "algorithm confusion": "a public key as the secret of HS256",
    "session fixation": "(session fixation)",
    "stolen state": "a copy of the state, to sign in",
    "SSRF": "(SSRF)",
}
"""Words of the row, by attack."""


@cache
def names_of_tests() -> frozenset[str]:
    files = (ROOT / "tests").rglob("test_*.py")
    pattern = re.compile(r"^ *(?:async )?def (test_\w+)", re.MULTILINE)
    return frozenset(name for file in files for name in pattern.findall(file.read_text()))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].strip()[:60])
def test_attack_names_existing_tests(row: list[str]) -> None:
    named = re.findall(r"`(test_\w+|tests/[\w/]+\.py)`", row[-1])

    assert named
    assert [name for name in named if name.endswith(".py") and not (ROOT / name).exists()] == []
    assert {name for name in named if not name.endswith(".py")} <= names_of_tests()


@pytest.mark.parametrize("words", ATTACKS_OF_OIDC.values(), ids=ATTACKS_OF_OIDC)
def test_attack_of_openid_connect_has_one_row(words: str) -> None:
    assert len([row for row in ROWS if words in row[0]]) == 1
