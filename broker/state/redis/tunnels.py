"""Tunnels in Redis: tickets and records."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence

from broker.infrastructure.clock import Clock
from broker.infrastructure.codec import encode
from broker.infrastructure.redis import Redis
from broker.infrastructure.redis.channels import channel_name
from broker.infrastructure.redis.scripts import CommandPart, script
from broker.state.redis.encoding import to_milliseconds, ttl_milliseconds
from broker.state.redis.keys import shard_prefix
from broker.state.redis.tunnel_inbox import RedisTunnelInbox
from broker.state.redis.tunnel_index import LINK, RedisTunnelIndex
from broker.state.redis.tunnel_keys import (
    KEY,
    RECORD,
    SHARED,
    TunnelKeys,
    parse_ticket,
    parse_tunnel,
    tunnel_key,
)
from broker.state.redis.tunnel_news import NOTIFY, RedisTunnelNews, news_of
from broker.state.redis.tunnel_streams import RedisTunnelStream
from broker.tunnels.model import ClosedTunnel, Tunnel, TunnelState
from broker.tunnels.ports import CLOSED_TTL, ChangedTunnel, TunnelStores

CHANGE = script(
    SHARED
    + NOTIFY
    + LINK
    + """
local id, expected, takes_seq, names, due, notice = unpack(ARGV, 5, 10)
local attachment, instance, open, version = unpack(ARGV, 11, 14)
local stored = redis.call(
  'HMGET', KEYS[1], 'attachment', 'instance', 'open', 'closed', 'names', 'seq', 'version')
if stored[4] or (stored[1] or '0') ~= expected then
  return false
end
if stored[7] and stored[7] + 1 ~= tonumber(version) then
  return false
end
redis.call('HSET', KEYS[1], 'attachment', attachment, 'instance', instance, 'open', open,
  'version', version, 'names', names, unpack(ARGV, 15))
redis.call('PEXPIRE', KEYS[1], record_ttl)
if home ~= '' then
  unlink(stored[5] or '', id, names)
  link(names, id)
  own(home .. 'tunnels-owners', open == '1' and instance or '')
  set_due(home .. 'tunnels-due', id, due)
end
local seq = stored[6] or 0
if takes_seq == '1' then
  seq = redis.call('HINCRBY', KEYS[1], 'seq', 1)
end
local notified = ''
if stored[3] == '1' and (stored[1] ~= attachment or stored[2] ~= instance) then
  notified = notify(notice, stored[2], id)
end
return {tonumber(seq), notified, stored[5] or ''}
"""
)

END = script(
    SHARED
    + KEY
    + NOTIFY
    + LINK
    + """
local id, attachment, seq, closed, ttl, notice = unpack(ARGV, 5)
local stored = redis.call('HMGET', KEYS[1], 'attachment', 'instance', 'open', 'closed', 'names')
if stored[1] ~= attachment then
  return false
end
if stored[4] then
  return string.match(stored[4], '^%d+') == seq and {'', ''}
end
redis.call('HSET', KEYS[1], 'closed', seq .. ' ' .. closed)
for _, name in ipairs({KEYS[1], key('tunnel-ends', id), key('tunnel-data', id)}) do
  if redis.call('PTTL', name) > tonumber(ttl) then
    redis.call('PEXPIRE', name, ttl)
  end
end
for _, kind in ipairs({'tunnel-pushes', 'tunnel-numbers'}) do
  redis.call('DEL', key(kind, id), key(kind .. '-order', id))
end
if home ~= '' then
  unlink(stored[5], id, '')
  set_due(home .. 'tunnels-due', id, '0')
end
return {notify(notice, stored[3] == '1' and stored[2] or '', id), stored[5]}
"""
)

TOUCH = script(
    SHARED
    + KEY
    + LINK
    + """
local found = {}
for i = 5, #ARGV, 3 do
  local id, attachment, seen = unpack(ARGV, i, i + 2)
  local record = key('tunnel', id)
  local stored = redis.call('HMGET', record, 'attachment', 'closed', 'names', 'open', 'instance')
  if stored[1] ~= attachment or stored[2] then
    found[#found + 1] = false
  else
    redis.call('HSET', record, 'seen', seen)
    redis.call('PEXPIRE', record, record_ttl)
    local holder = stored[4] == '1' and stored[5] or ''
    if home ~= '' then
      link(stored[3], id)
      own(home .. 'tunnels-owners', holder)
      redis.call('PEXPIRE', home .. 'tunnels-due', record_ttl)
    end
    found[#found + 1] = {stored[3], holder}
  end
end
return found
"""
)


class RedisTicketStore:
    def __init__(self, redis: Redis, clock: Clock) -> None:
        self._redis = redis
        self._clock = clock

    async def put(self, ticket_hash: bytes, tunnel: Tunnel, expires_at: float) -> None:
        ttl = ttl_milliseconds(expires_at - self._clock())
        await self._redis.call(
            "SET", _ticket_key(tunnel.id[:1], ticket_hash), encode(tunnel), "PX", ttl
        )

    async def take(self, shard: str, ticket_hash: bytes) -> Tunnel | None:
        return parse_ticket(await self._redis.call("GETDEL", _ticket_key(shard, ticket_hash)))


class RedisTunnelStore:
    def __init__(
        self, redis: Redis, keys: TunnelKeys, index: RedisTunnelIndex, news: RedisTunnelNews
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._index = index
        self._news = news

    async def get(self, tunnel_id: str) -> Tunnel | None:
        stored = await self._redis.call("HMGET", tunnel_key("tunnel", tunnel_id), *RECORD)
        return parse_tunnel(stored)

    async def change(
        self, tunnel: Tunnel, *, attachment: int, takes_seq: bool = False
    ) -> ChangedTunnel | None:
        names = self._keys.of(tunnel)
        changed = await self._redis.run(
            CHANGE,
            [tunnel_key("tunnel", tunnel.id)],
            *self._keys.shared_arguments(),
            tunnel.id,
            attachment,
            int(takes_seq),
            " ".join(names),
            to_milliseconds(tunnel.due_at),
            news_of(tunnel.id),
            *_fields(tunnel),
        )
        if not changed:
            return None
        seq, notified, former_names = changed[0], changed[1].decode(), changed[2].decode().split()
        if not self._keys.is_together:
            surplus = set(former_names).difference(names)
            await asyncio.gather(
                self._news.mark([(notified, tunnel.id)]),
                self._index.move(tunnel, names, surplus),
            )
        return ChangedTunnel(seq, notified)

    async def end(self, closed: ClosedTunnel) -> str | None:
        tunnel = closed.tunnel
        ended = await self._redis.run(
            END,
            [tunnel_key("tunnel", tunnel.id)],
            *self._keys.shared_arguments(),
            tunnel.id,
            tunnel.attachment,
            closed.seq,
            encode(closed),
            to_milliseconds(CLOSED_TTL),
            news_of(tunnel.id),
        )
        if not ended:
            return None
        notified: str = ended[0].decode()
        if not self._keys.is_together:
            await asyncio.gather(
                self._news.mark([(notified, tunnel.id)]),
                self._index.remove(tunnel.id, ended[1].decode().split()),
            )
        return notified

    async def touch(self, seen: Mapping[str, tuple[int, float]]) -> Collection[str]:
        ids = list(seen)
        batches = [[ids[at] for at in batch] for batch in self._keys.batches(ids)]
        missing = await asyncio.gather(*(self._touch(batch, seen) for batch in batches))
        return [tunnel_id for part in missing for tunnel_id in part]

    async def _touch(
        self, ids: Sequence[str], seen: Mapping[str, tuple[int, float]]
    ) -> Sequence[str]:
        parts: list[CommandPart] = []
        for tunnel_id in ids:
            attachment, seen_at = seen[tunnel_id]
            parts += [tunnel_id, attachment, str(seen_at)]
        shared, key = self._keys.shared_arguments(), tunnel_key("tunnel", ids[0])
        found = dict(zip(ids, await self._redis.run(TOUCH, [key], *shared, *parts), strict=True))
        if not self._keys.is_together:
            touched = ((tunnel_id, one) for tunnel_id, one in found.items() if one)
            await self._index.add(
                {
                    tunnel_id: (names.decode().split(), holder.decode())
                    for tunnel_id, (names, holder) in touched
                }
            )
        return [tunnel_id for tunnel_id, one in found.items() if not one]


def _fields(tunnel: Tunnel) -> list[CommandPart]:
    """Return the values that `CHANGE` compares, and the fields that it only stores."""
    return [
        tunnel.attachment,
        tunnel.instance,
        int(tunnel.state is TunnelState.OPEN),
        tunnel.version,
        *("tunnel", encode(tunnel)),
        *("seen", str(tunnel.seen_at)),
        *("owner", tunnel.owner),
        *("api", tunnel.api),
    ]


def _ticket_key(shard: str, ticket_hash: bytes) -> str:
    return f"{shard_prefix(shard)}ticket:{ticket_hash.hex()}"


def open_tunnels(redis: Redis, clock: Clock, *, publishes: bool) -> TunnelStores:
    """Return the stores.  publishes: whether scripts publish notices, see `open_state`."""
    keys = TunnelKeys(redis, clock, channel=channel_name("") if publishes else "")
    index, news = RedisTunnelIndex(redis, keys, clock), RedisTunnelNews(redis, keys)
    return TunnelStores(
        RedisTicketStore(redis, clock),
        RedisTunnelStore(redis, keys, index, news),
        index,
        RedisTunnelStream(redis, keys, news),
        RedisTunnelInbox(redis, clock),
    )
