"""Whether a server evicts keys. Read from INFO, because managed servers forbid CONFIG."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class MemoryPolicy(NamedTuple):
    """The memory settings of one server.

    max_bytes: 0 for no limit.
    policy: `maxmemory-policy`; empty if unknown.
    """

    max_bytes: int
    policy: str

    @property
    def evicts(self) -> bool:
        """Whether the server may delete keys to free memory."""
        return self.max_bytes > 0 and self.policy not in ("", "noeviction")


def parse_memory_policy(reply: bytes | str) -> MemoryPolicy:
    """Parse the reply to INFO."""
    text = reply.decode() if isinstance(reply, bytes) else reply
    return to_memory_policy(dict(line.split(":", 1) for line in text.splitlines() if ":" in line))


def to_memory_policy(fields: Mapping[str, Any]) -> MemoryPolicy:
    return MemoryPolicy(int(fields.get("maxmemory", 0)), str(fields.get("maxmemory_policy", "")))
