"""The sets of changed tunnels of instances in Redis."""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict
from collections.abc import Collection, Iterable

from broker.infrastructure.coordination import Notice
from broker.infrastructure.redis import Redis
from broker.infrastructure.redis.channels import encode_notice
from broker.infrastructure.redis.scripts import script
from broker.state.redis.tunnel_keys import RECORD_TTL_MS, TunnelKeys
from broker.tunnels.ports import TUNNEL_NEWS

NOTIFY = """
local function notify(notice, instance, id)
  if instance == '' or home == '' then
    return instance
  end
  local changed = home .. 'tunnels-changed:' .. instance
  redis.call('SADD', changed, id)
  redis.call('PEXPIRE', changed, record_ttl)
  if channel ~= '' and type(redis.pcall('PUBLISH', channel .. instance, notice)) == 'number' then
    return ''
  end
  return instance
end
"""
"""Marks a tunnel as changed and publishes the notice. Returns the instance that the caller must
notify. If PUBLISH is refused, the mark stays. On a Cluster, the caller marks the tunnel."""

MARK = script("""
redis.call('SADD', KEYS[1], unpack(ARGV, 2))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
""")

TAKE = script("""
local changed, taken, token = unpack(KEYS)
if redis.call('GET', token) == ARGV[1] then
  redis.call('DEL', taken)
end
redis.call('SUNIONSTORE', taken, taken, changed)
redis.call('DEL', changed)
redis.call('PEXPIRE', taken, ARGV[3])
redis.call('SET', token, ARGV[2], 'PX', ARGV[3])
return redis.call('SMEMBERS', taken)
""")
"""Moves ids from `changed` to `taken`, and returns all in `taken`.

They remain there until a call has the token of this one: if a reply is lost, the next call returns
them again.
"""


class RedisTunnelNews:
    def __init__(self, redis: Redis, keys: TunnelKeys) -> None:
        self._redis = redis
        self._keys = keys
        self._received: dict[str, str] = {}

    async def mark(self, news: Iterable[tuple[str, str]]) -> None:
        """Mark tunnels as changed.  news: instance, which may be empty, and tunnel id."""
        ids: defaultdict[str, list[str]] = defaultdict(list)
        for instance, tunnel_id in news:
            if instance:
                ids[instance].append(tunnel_id)
        await asyncio.gather(
            *(
                self._redis.run(MARK, [self._keys.changed(instance)], RECORD_TTL_MS, *own)
                for instance, own in ids.items()
            )
        )

    async def take(self, instance: str) -> Collection[str]:
        token = secrets.token_urlsafe(8)
        found = await self._redis.run(
            TAKE,
            [self._keys.changed(instance), *self._keys.taken(instance)],
            self._received.get(instance, ""),
            token,
            RECORD_TTL_MS,
        )
        self._received[instance] = token
        return [tunnel_id.decode() for tunnel_id in found]

    async def remove(self, instance: str, tunnel_ids: Collection[str]) -> None:
        if tunnel_ids:
            await self._redis.call("SREM", self._keys.changed(instance), *tunnel_ids)


def news_of(tunnel_id: str) -> bytes:
    """Return the notice that scripts publish."""
    return encode_notice(Notice(TUNNEL_NEWS, tunnel_id))
