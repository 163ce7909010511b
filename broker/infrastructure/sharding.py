"""Shard names: the Redis hash tags of logins."""

from __future__ import annotations

import hashlib
import string

SHARDS = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"


def shard_of(scene: str) -> str:
    """Return the shard of a login, one of 64 characters. It does not reveal the scene."""
    return SHARDS[hashlib.sha256(scene.encode()).digest()[0] % len(SHARDS)]
