"""docs/cli.md lists every command and option."""

from __future__ import annotations

from tests.support.environment import ROOT
from tools.cli_page import reference


def test_page_has_all_commands_and_options() -> None:
    page = (ROOT / "docs" / "cli.md").read_text()

    assert page.endswith(reference().rstrip() + "\n"), "run python -m tools.cli_page"
