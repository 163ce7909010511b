"""The sets of changed tunnels of instances in Redis."""

from __future__ import annotations

import asyncio
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
local ids = redis.call('SMEMBERS', KEYS[1])
redis.call('DEL', KEYS[1])
return ids
""")


class RedisTunnelNews:
    def __init__(self, redis: Redis, keys: TunnelKeys) -> None:
        self._redis = redis
        self._keys = keys

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
        found = await self._redis.run(TAKE, [self._keys.changed(instance)])
        return [tunnel_id.decode() for tunnel_id in found]

    async def remove(self, instance: str, tunnel_ids: Collection[str]) -> None:
        if tunnel_ids:
            await self._redis.call("SREM", self._keys.changed(instance), *tunnel_ids)


def news_of(tunnel_id: str) -> bytes:
    """Return the notice that scripts publish."""
    return encode_notice(Notice(TUNNEL_NEWS, tunnel_id))
