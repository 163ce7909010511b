"""The index of tunnels in Redis. `tunnel_keys.py` describes the keys."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from broker.infrastructure.clock import Clock
from broker.infrastructure.redis import Redis
from broker.infrastructure.redis.scripts import script
from broker.state.redis.encoding import to_milliseconds
from broker.state.redis.tunnel_keys import (
    RECORD,
    RECORD_TTL_MS,
    SHARED,
    TunnelKeys,
    holder_of,
    parse_tunnel,
    tunnel_key,
)
from broker.tunnels.model import Tunnel
from broker.tunnels.ports import PAGE_MAX, TunnelPage, TunnelQuery

LINK = """
local function link(names, id)
  for name in string.gmatch(names, '%S+') do
    redis.call('ZADD', name, 0, id)
    redis.call('PEXPIRE', name, record_ttl)
  end
end

local function unlink(names, id, kept)
  for name in string.gmatch(names, '%S+') do
    if not string.find(kept, name, 1, true) then
      redis.call('ZREM', name, id)
    end
  end
end

local function own(owners, holder)
  if holder ~= '' then
    redis.call('ZADD', owners, now + record_ttl, holder)
    redis.call('PEXPIRE', owners, record_ttl)
  end
end

local function set_due(name, id, due)
  if due == '0' then
    redis.call('ZREM', name, id)
  else
    redis.call('ZADD', name, due, id)
    redis.call('PEXPIRE', name, record_ttl)
  end
end
"""
"""`names`: index keys, separated by spaces. No index key is a part of another one."""

ADD = script(
    SHARED
    + LINK
    + """
for i = 5, #ARGV do
  link(KEYS[1], ARGV[i])
end
"""
)

OWN = script(SHARED + LINK + "own(KEYS[1], ARGV[5])")

SET_DUE = script(SHARED + LINK + "set_due(KEYS[1], ARGV[5], ARGV[6])")

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
        matching = [one for one in await self._read(name, ids[:limit]) if query.matches(one)]
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
        name, now = self._keys.due(), to_milliseconds(self._clock())
        found = await self._redis.call("ZRANGEBYSCORE", name, "-inf", now, "LIMIT", 0, limit)
        return await self._read(name, [one.decode() for one in found])

    async def move(self, tunnel: Tunnel, names: Collection[str], surplus: Iterable[str]) -> None:
        """Add a tunnel to index keys, remove it from others, and store when it is due."""
        due, shared = to_milliseconds(tunnel.due_at), self._keys.shared_arguments()
        await asyncio.gather(
            self.add({tunnel.id: (names, holder_of(tunnel))}),
            self._remove(tunnel.id, surplus),
            self._redis.run(SET_DUE, [self._keys.due()], *shared, tunnel.id, due),
        )

    async def add(self, entries: Mapping[str, tuple[Collection[str], str]]) -> None:
        """Add tunnels to the index.  entries: index keys and holder, by tunnel id."""
        by_name: defaultdict[str, list[str]] = defaultdict(list)
        for tunnel_id, (names, _) in entries.items():
            for name in names:
                by_name[name].append(tunnel_id)
        holders = {holder for _, holder in entries.values() if holder}
        shared = self._keys.shared_arguments()
        await asyncio.gather(
            *(self._redis.run(ADD, [name], *shared, *ids) for name, ids in by_name.items()),
            *(self._redis.run(OWN, [self._keys.owners()], *shared, one) for one in holders),
            self._redis.call("PEXPIRE", self._keys.due(), RECORD_TTL_MS),
        )

    async def remove(self, tunnel_id: str, names: Iterable[str]) -> None:
        await self._remove(tunnel_id, [*names, self._keys.due()])

    async def _remove(self, tunnel_id: str, names: Iterable[str]) -> None:
        await asyncio.gather(*(self._redis.call("ZREM", name, tunnel_id) for name in names))

    async def _read(self, name: str, ids: Sequence[str]) -> list[Tunnel]:
        """Return tunnels in the order of `ids`, and remove ended ones from the key `name`.

        An id is never used again. So no other instance has just added an ended one.
        """
        batches = [[ids[at] for at in batch] for batch in self._keys.batches(ids)]
        parts = await asyncio.gather(*map(self._read_batch, batches))
        found = {tunnel_id: tunnel for part in parts for tunnel_id, tunnel in part}
        if ended := [tunnel_id for tunnel_id in ids if found[tunnel_id] is None]:
            await self._redis.call("ZREM", name, *ended)
        tunnels = map(found.__getitem__, ids)
        return [tunnel for tunnel in tunnels if tunnel is not None]

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
