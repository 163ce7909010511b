"""The index of tunnels in Redis. `tunnel_keys.py` describes the keys."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from broker.infrastructure.clock import Clock
from broker.infrastructure.redis import Redis, Reply
from broker.infrastructure.redis.scripts import script
from broker.state.redis.encoding import to_milliseconds
from broker.state.redis.tunnel_keys import RECORD, TunnelKeys, parse_tunnel, tunnel_key
from broker.tunnels.model import Tunnel, TunnelState
from broker.tunnels.ports import PAGE_MAX, RECORD_TTL, TunnelPage, TunnelQuery

TTL = to_milliseconds(RECORD_TTL)

LINK = """
local function link(names, id, ttl)
  for name in string.gmatch(names, '%S+') do
    redis.call('ZADD', name, 0, id)
    redis.call('PEXPIRE', name, ttl)
  end
end

local function unlink(names, id, kept)
  for name in string.gmatch(names, '%S+') do
    if not string.find(kept, name, 1, true) then
      redis.call('ZREM', name, id)
    end
  end
end

local function own(owners, instance, now, ttl)
  if instance ~= '' then
    redis.call('ZADD', owners, now + ttl, instance)
    redis.call('PEXPIRE', owners, ttl)
  end
end

local function set_due(marks, id, due, ttl)
  local name = marks .. 'tunnels-due'
  if due == '0' then
    redis.call('ZREM', name, id)
  else
    redis.call('ZADD', name, due, id)
    redis.call('PEXPIRE', name, ttl)
  end
end
"""
"""`names`: index keys, separated by spaces. No index key begins another one."""

ADD = script(
    LINK
    + """
for _, id in ipairs({unpack(ARGV, 2)}) do
  link(KEYS[1], id, ARGV[1])
end
"""
)

OWN = script(LINK + "own(KEYS[1], unpack(ARGV))")

OWNERS = script("""
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1])
return redis.call('ZRANGE', KEYS[1], 0, -1)
""")

READ = script(f"""
local found = {{}}
for i, name in ipairs(KEYS) do
  found[i] = redis.call('HMGET', name, {", ".join(map(repr, RECORD))})
end
return found
""")

DUE = script(f"""
local found = {{}}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], 1, ARGV[1], 'LIMIT', 0, ARGV[2])) do
  local name = 'scanlogin:{{' .. string.sub(id, 1, 1) .. '}}:tunnel:' .. id
  local stored = redis.call('HMGET', name, {", ".join(map(repr, RECORD))})
  if stored[1] then
    found[#found + 1] = stored
  else
    redis.call('ZREM', KEYS[1], id)
  end
end
return found
""")


class RedisTunnelIndex:
    def __init__(self, redis: Redis, keys: TunnelKeys, clock: Clock) -> None:
        self._redis = redis
        self._keys = keys
        self._clock = clock

    async def find(
        self, query: TunnelQuery, *, after: str = "", limit: int = PAGE_MAX
    ) -> TunnelPage:
        name = self._name(query)
        lowest = f"({after}" if after else "-"
        found = await self._redis.call("ZRANGEBYLEX", name, lowest, "+", "LIMIT", 0, limit + 1)
        ids = [one.decode() for one in found]
        tunnels = await self._read(ids[:limit])
        ended = [one for one in ids[:limit] if tunnels[one] is None]
        if ended:  # an id is never used again, so no other instance has just added it
            await self._redis.call("ZREM", name, *ended)
        matching = [one for one in tunnels.values() if one is not None and query.matches(one)]
        return TunnelPage(matching, ids[limit - 1] if len(ids) > limit else "")

    async def count(self, owner: str) -> int:
        count: int = await self._redis.call("ZCARD", self._keys.index("app", owner))
        return count

    async def owners(self) -> Collection[str]:
        now = to_milliseconds(self._clock())
        found = await self._redis.run(OWNERS, [self._keys.owners()], now)
        instances = [one.decode() for one in found]
        have_tunnels = await asyncio.gather(
            *(self._redis.call("ZCARD", self._keys.index("instance", one)) for one in instances)
        )
        return [one for one, has in zip(instances, have_tunnels, strict=True) if has]

    async def due(self, limit: int) -> Sequence[Tunnel]:
        now = to_milliseconds(self._clock())
        found: list[list[Reply]] = await asyncio.gather(
            *(
                self._redis.run(DUE, [self._keys.due(shard)], now, limit)
                for shard in self._keys.mark_shards
            )
        )
        tunnels = (parse_tunnel(stored) for part in found for stored in part)
        return [one for one in tunnels if one is not None][:limit]

    async def move(self, tunnel: Tunnel, names: Collection[str], surplus: Iterable[str]) -> None:
        """Add a tunnel to index keys, and remove it from others."""
        holder = tunnel.instance if tunnel.state is TunnelState.OPEN else ""
        await asyncio.gather(
            self.restore({tunnel.id: (names, holder)}), self.remove(tunnel.id, surplus)
        )

    async def restore(self, entries: Mapping[str, tuple[Collection[str], str]]) -> None:
        """Add tunnels to the index.  entries: index keys and holder, by tunnel id."""
        by_name: defaultdict[str, list[str]] = defaultdict(list)
        for tunnel_id, (names, _) in entries.items():
            for name in names:
                by_name[name].append(tunnel_id)
        holders = {holder for _, holder in entries.values() if holder}
        now = to_milliseconds(self._clock())
        await asyncio.gather(
            *(self._redis.run(ADD, [name], TTL, *ids) for name, ids in by_name.items()),
            *(self._redis.run(OWN, [self._keys.owners()], one, now, TTL) for one in holders),
        )

    async def remove(self, tunnel_id: str, names: Iterable[str]) -> None:
        await asyncio.gather(*(self._redis.call("ZREM", name, tunnel_id) for name in names))

    async def _read(self, ids: Sequence[str]) -> dict[str, Tunnel | None]:
        batches = [[ids[at] for at in batch] for batch in self._keys.batches(ids)]
        found = await asyncio.gather(*(self._read_batch(batch) for batch in batches))
        tunnels = {key: one for part in found for key, one in part}
        return {tunnel_id: tunnels[tunnel_id] for tunnel_id in ids}

    async def _read_batch(self, ids: Sequence[str]) -> Iterable[tuple[str, Tunnel | None]]:
        found = await self._redis.run(READ, [tunnel_key("tunnel", one) for one in ids])
        return zip(ids, map(parse_tunnel, found), strict=True)

    def _name(self, query: TunnelQuery) -> str:
        if query.instance:
            return self._keys.index("instance", query.instance)
        for kind in ("subject", "group", "person"):
            if name := getattr(query, kind):
                return self._keys.index(kind, query.owner, name)
        return self._keys.index("app", query.owner)
