"""Whether a server evicts keys, by INFO: managed servers allow it and forbid CONFIG."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Memory(NamedTuple):
    """max_bytes: 0 for no limit.  policy: `maxmemory-policy`; empty if unknown."""

    max_bytes: int
    policy: str

    @property
    def evicts(self) -> bool:
        """Whether the server may delete keys to make room."""
        return self.max_bytes > 0 and self.policy not in ("", "noeviction")


def read_memory(reply: bytes | str) -> Memory:
    """Read the reply to INFO."""
    text = reply.decode() if isinstance(reply, bytes) else reply
    return memory_of(dict(line.split(":", 1) for line in text.splitlines() if ":" in line))


def memory_of(fields: Mapping[str, Any]) -> Memory:
    return Memory(int(fields.get("maxmemory", 0)), str(fields.get("maxmemory_policy", "")))
