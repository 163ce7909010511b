"""The commands and configurations in docs/oidc.md."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import pytest

from broker.cli.oidc_products import ALIASES, PRODUCTS
from tests.support.commands import Call
from tests.support.environment import ROOT

PAGE = (ROOT / "docs/oidc.md").read_text()

BLOCK = re.compile(r"^ *```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


class Step(NamedTuple):
    """A command, and the lines that docs/oidc.md shows of its output."""

    command: str
    shown: tuple[str, ...]


def steps() -> Iterator[Step]:
    blocks = [*BLOCK.findall(PAGE), ("", "")]
    for (language, text), (next_language, next_text) in pairwise(blocks):
        if language != "console":
            continue
        *first, last = re.findall(r"^ *\$ (.*)$", text, re.MULTILINE)
        yield from (Step(command, ()) for command in first)
        shown = () if next_language == "console" else tuple(next_text.splitlines())
        yield Step(last, shown if " --oidc " in last and " show " in last else ())


def test_documented_commands_print_what_is_shown(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCAN_LOGIN_PUBLIC_URL", "https://login.example")
    monkeypatch.setenv("SCAN_LOGIN_ALLOW_PRETEND", "true")

    for command, shown in steps():
        program, *words = shlex.split(command)
        done = call(*words)

        assert (program, done.code) == ("scan-login", 0), f"{command}\n{done.text}"
        assert "warning:" not in done.text, f"{command}\n{done.text}"
        assert set(shown) <= set(done.text.splitlines()), command


def test_every_product_is_documented() -> None:
    table = PAGE.partition("| NAME |")[2].partition("\n\n")[0]
    first_cells = " ".join(line.split("|")[1] for line in table.splitlines() if line.count("|") > 2)

    assert {*re.findall(r"`([\w-]+)`", first_cells)} == {*PRODUCTS, *ALIASES}


def test_documented_callbacks_are_those_of_the_products() -> None:
    for name, product in PRODUCTS.items():
        [row] = [line for line in PAGE.splitlines() if re.match(rf"\|.*`{name}`.*\|.*\|", line)]
        assert product.callback in row, name


def test_ten_products_have_a_section() -> None:
    named = re.findall(r"--oidc ([\w-]+)$", PAGE.partition("### ")[2], re.MULTILINE)

    assert len(set(named)) == 10


def test_documented_versions_are_those_of_the_requirements() -> None:
    [table] = re.findall(r"^### Products that were run$(.*?)^## ", PAGE, re.MULTILINE | re.DOTALL)
    pins = [file.read_text() for file in sorted((ROOT / "tests/interop").glob("*.txt"))]

    for name in ("jupyterhub", "oauthenticator", "matrix-synapse", "pgadmin4"):
        [version] = re.findall(rf"^{name}==(.+)$", "\n".join(pins), re.MULTILINE)
        assert re.search(rf"[|,] {re.escape(version)}[ ,]", table), name
