"""The logins that have changed since an instance last took them, in Redis.

    scanlogin:{s}:login-changes:<instance>   a set of login ids, and a token

`SWAP` in `logins.py` adds the id of each login whose change has a notice. The token is that of
the last `take`. If it is missing, ids may be missing too: the reply to that `take` was lost, Redis
has lost data or refused an id, or the instance has not taken for `CHANGES_TTL`.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Collection, Sequence

from broker.errors import Unavailable
from broker.infrastructure.redis import Redis
from broker.infrastructure.redis.connection import ErrorReply
from broker.infrastructure.redis.scripts import script
from broker.login.ports import ChangedLogins
from broker.state.redis.encoding import to_milliseconds

CHANGES_TTL = 60.0
"""Seconds after a `take` until changes are no longer stored."""

TOKEN_MARK = "="  # noqa: S105  # no secret
"""The first character of a token. No login id has it."""

ADD_CHANGE = """
local function add_change(changes, id)
  local exists = redis.pcall('EXISTS', changes)
  if exists == 0 then
    return
  end
  if exists ~= 1 or type(redis.pcall('SADD', changes, id)) ~= 'number' then
    redis.pcall('DEL', changes)
  end
end
"""
"""A Lua function that raises no error. Without the set, the instance reads the whole shard."""

TAKE = script("""
local changes, former, token, ttl = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local is_complete = redis.call('SISMEMBER', changes, former)
local ids = redis.call('SMEMBERS', changes)
redis.call('DEL', changes)
redis.call('SADD', changes, token)
redis.call('PEXPIRE', changes, ttl)
return {is_complete, ids}
""")


def changes_key(shard: str, instance: str) -> str:
    return f"scanlogin:{{{shard}}}:login-changes:{instance}"


class RedisLoginChanges:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._tokens: dict[str, str] = {}  # by key

    async def take(self, instance: str, shards: Sequence[str]) -> ChangedLogins:
        """Return the changed ids of these shards, and the shards whose changes are not known."""
        token = TOKEN_MARK + secrets.token_urlsafe(8)
        taken = await asyncio.gather(
            *(self._take_shard(changes_key(shard, instance), token) for shard in shards)
        )
        return ChangedLogins(
            ids=[login_id for ids in taken if ids is not None for login_id in ids],
            shards=[shard for shard, ids in zip(shards, taken, strict=True) if ids is None],
        )

    async def _take_shard(self, key: str, token: str) -> Collection[str] | None:
        former = self._tokens.get(key, "")
        try:
            is_complete, ids = await self._redis.run(
                TAKE, [key], former, token, to_milliseconds(CHANGES_TTL)
            )
        except (Unavailable, ErrorReply):  # such as a missing permission
            return None
        self._tokens[key] = token
        if not is_complete:
            return None
        return [login_id.decode() for login_id in ids if login_id != former.encode()]
