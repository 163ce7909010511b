"""Lua scripts and their arguments."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

CommandPart = bytes | str | int


class Script(NamedTuple):
    """A Lua script, and the SHA-1 by which the server finds it in its cache."""

    text: str
    sha: str


def script(text: str) -> Script:
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
