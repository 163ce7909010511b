"""docs/backend.md contains the example sites, their commands, and the names of the packages."""

from __future__ import annotations

import ast
import re

import pytest

from tests.support.client_examples import EXAMPLES, command_of
from tests.support.environment import ROOT

PAGE = (ROOT / "docs/backend.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)
PYTHON = ROOT / "packages/client-python/src/scan_login_client"

LINES_MAX = 60


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_is_on_the_page(name: str) -> None:
    language = {".py": "python", ".js": "js"}[EXAMPLES[name].suffix]

    assert (language, EXAMPLES[name].read_text()) in BLOCKS
    assert f"save the site as `{EXAMPLES[name].name}`" in PAGE


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_is_short_and_names_its_command(name: str) -> None:
    assert len(EXAMPLES[name].read_text().splitlines()) <= LINES_MAX
    assert name in " ".join(command_of(EXAMPLES[name]))


def test_page_names_every_event_and_error() -> None:
    events = ast.parse((PYTHON / "events.py").read_text()).body
    errors = ast.parse((PYTHON / "errors.py").read_text()).body
    classes = {node.name for node in events + errors if isinstance(node, ast.ClassDef)}
    classes -= {"Event", "TunnelEvent", "_NumberedEntry"}

    assert {name for name in classes if f"`{name}`" not in PAGE} == set()
