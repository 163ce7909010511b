"""Prefixes and lives of keys."""

from __future__ import annotations

EXPIRE = """
local function expire(name, ttl)
  if redis.call('PTTL', name) < tonumber(ttl) then
    redis.call('PEXPIRE', name, ttl)
  end
end
"""
"""A Lua function that extends the life of a key, and never shortens it."""


def shard_prefix(shard: str) -> str:
    """Return the prefix of the keys of a shard. They are in one slot of a Cluster."""
    return f"scanlogin:{{{shard}}}:"
