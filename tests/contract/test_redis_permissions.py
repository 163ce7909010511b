"""The documented permissions of the broker's Redis user include every command of the state."""

from __future__ import annotations

import re

from tests.support.environment import ROOT

CALL = re.compile(r"""redis\.p?call\(\s*['"]([A-Z]+)['"]""")
"""A command in a script, or of `Redis.call`."""


def test_documented_permissions_include_all_commands() -> None:
    sources = (ROOT / "broker" / "state" / "redis").glob("*.py")
    commands = {name.lower() for path in sources for name in CALL.findall(path.read_text())}
    text = (ROOT / "docs" / "alerts.md").read_text()
    [documented] = re.findall(r"`~scanlogin:\*[^`]*`", text)

    assert commands
    assert commands - set(re.findall(r"\+([a-z|]+)", documented)) == set()
