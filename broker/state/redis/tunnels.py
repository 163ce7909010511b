"""Tunnels in Redis: tickets and records."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence

from broker.infrastructure.clock import Clock
from broker.infrastructure.codec import encode
from broker.infrastructure.coordination import Notice
from broker.infrastructure.redis import Redis
from broker.infrastructure.redis.channels import channel_name, encode_notice
from broker.infrastructure.redis.scripts import CommandPart, script
from broker.state.redis.encoding import to_milliseconds, ttl_milliseconds
from broker.state.redis.tunnel_inbox import RedisTunnelInbox
from broker.state.redis.tunnel_index import LINK, RedisTunnelIndex
from broker.state.redis.tunnel_keys import (
    KEY,
    NOTIFY,
    RECORD,
    TunnelKeys,
    parse_ticket,
    parse_tunnel,
    shard_prefix,
    tunnel_key,
)
from broker.state.redis.tunnel_streams import RedisTunnelStream
from broker.tunnels.model import ClosedTunnel, Tunnel, TunnelState
from broker.tunnels.ports import (
    CLOSED_TTL,
    RECORD_TTL,
    TUNNEL_NEWS,
    ChangedTunnel,
    TunnelStores,
)

RECORD_TTL_MS, CLOSED_TTL_MS = to_milliseconds(RECORD_TTL), to_milliseconds(CLOSED_TTL)

CHANGE = script(
    NOTIFY
    + LINK
    + """
local id, expected, takes_seq, names, due, ttl = unpack(ARGV, 1, 6)
local marks, channel, notice, owners, now = unpack(ARGV, 7, 11)
local attachment, instance, open, version = unpack(ARGV, 12, 15)
local stored = redis.call(
  'HMGET', KEYS[1], 'attachment', 'instance', 'open', 'closed', 'names', 'seq', 'version')
if stored[4] or (stored[1] or '0') ~= expected then
  return false
end
if stored[7] and stored[7] + 1 ~= tonumber(version) then
  return false
end
redis.call('HSET', KEYS[1], 'attachment', attachment, 'instance', instance, 'open', open,
  'version', version, 'names', names, unpack(ARGV, 16))
redis.call('PEXPIRE', KEYS[1], ttl)
set_due(marks, id, due, ttl)
if owners ~= '' then
  unlink(stored[5] or '', id, names)
  link(names, id, ttl)
  own(owners, open == '1' and instance or '', now, ttl)
end
local seq = stored[6] or 0
if takes_seq == '1' then
  seq = redis.call('HINCRBY', KEYS[1], 'seq', 1)
end
local notified = ''
if stored[3] == '1' and (stored[1] ~= attachment or stored[2] ~= instance) then
  notified = notify(marks, channel, notice, stored[2], id, ttl)
end
return {tonumber(seq), notified, stored[5] or ''}
"""
)
"""With an empty `owners` the index is elsewhere: the caller updates it."""

END = script(
    KEY
    + NOTIFY
    + LINK
    + """
local id, attachment, seq, closed, ttl, marks, channel, notice, together, mark_ttl = unpack(ARGV)
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
set_due(marks, id, '0', ttl)
if together == '1' then
  unlink(stored[5], id, '')
end
local holder = stored[3] == '1' and stored[2] or ''
return {notify(marks, channel, notice, holder, id, mark_ttl), stored[5]}
"""
)

TOUCH = script(
    KEY
    + LINK
    + """
local marks, owners, now, ttl = unpack(ARGV, 1, 4)
local found = {}
for i = 5, #ARGV, 3 do
  local id, attachment, seen = unpack(ARGV, i, i + 2)
  local record = key('tunnel', id)
  local stored = redis.call('HMGET', record, 'attachment', 'closed', 'names', 'open', 'instance')
  if stored[1] ~= attachment or stored[2] then
    found[#found + 1] = false
  else
    redis.call('HSET', record, 'seen', seen)
    redis.call('PEXPIRE', record, ttl)
    local holder = stored[4] == '1' and stored[5] or ''
    if owners ~= '' then
      link(stored[3], id, ttl)
      own(owners, holder, now, ttl)
    end
    found[#found + 1] = {stored[3], holder}
  end
end
redis.call('PEXPIRE', marks .. 'tunnels-due', ttl)
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
    def __init__(self, redis: Redis, keys: TunnelKeys, index: RedisTunnelIndex, clock: Clock):
        self._redis = redis
        self._keys = keys
        self._index = index
        self._clock = clock
        self._owners = keys.owners() if keys.is_together else ""

    async def get(self, tunnel_id: str) -> Tunnel | None:
        return parse_tunnel(
            await self._redis.call("HMGET", tunnel_key("tunnel", tunnel_id), *RECORD)
        )

    async def change(
        self, tunnel: Tunnel, *, attachment: int, takes_seq: bool = False
    ) -> ChangedTunnel | None:
        names = self._keys.of(tunnel)
        changed = await self._redis.run(
            CHANGE,
            [tunnel_key("tunnel", tunnel.id)],
            tunnel.id,
            attachment,
            int(takes_seq),
            " ".join(names),
            to_milliseconds(tunnel.due_at),
            RECORD_TTL_MS,
            *self._notice(tunnel.id),
            self._owners,
            to_milliseconds(self._clock()),
            tunnel.attachment,
            tunnel.instance,
            int(tunnel.state is TunnelState.OPEN),
            tunnel.version,
            *_fields(tunnel),
        )
        if not changed:
            return None
        seq, notified, former = changed
        if not self._keys.is_together:
            surplus = set(former.decode().split()).difference(names)
            await self._index.move(tunnel, names, surplus)
        return ChangedTunnel(seq, notified.decode())

    async def end(self, closed: ClosedTunnel) -> str | None:
        tunnel = closed.tunnel
        ended = await self._redis.run(
            END,
            [tunnel_key("tunnel", tunnel.id)],
            tunnel.id,
            tunnel.attachment,
            closed.seq,
            encode(closed),
            CLOSED_TTL_MS,
            *self._notice(tunnel.id),
            int(self._keys.is_together),
            RECORD_TTL_MS,
        )
        if not ended:
            return None
        notified, names = ended
        if not self._keys.is_together:
            await self._index.remove(tunnel.id, names.decode().split())
        instance: str = notified.decode()
        return instance

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
        found = await self._redis.run(
            TOUCH,
            [tunnel_key("tunnel", ids[0])],
            self._keys.marks(ids[0]),
            self._owners,
            to_milliseconds(self._clock()),
            RECORD_TTL_MS,
            *parts,
        )
        if not self._keys.is_together:
            await self._index.restore(
                {
                    tunnel_id: (one[0].decode().split(), one[1].decode())
                    for tunnel_id, one in zip(ids, found, strict=True)
                    if one
                }
            )
        return [tunnel_id for tunnel_id, one in zip(ids, found, strict=True) if not one]

    def _notice(self, tunnel_id: str) -> tuple[CommandPart, ...]:
        """Return where scripts mark and publish news of a tunnel."""
        notice = encode_notice(Notice(TUNNEL_NEWS, tunnel_id))
        return self._keys.marks(tunnel_id), self._keys.channel, notice


def _fields(tunnel: Tunnel) -> list[CommandPart]:
    """Return the fields that only `parse_tunnel` and `append` read."""
    return [
        *("tunnel", encode(tunnel)),
        *("seen", str(tunnel.seen_at)),
        *("owner", tunnel.owner),
        *("api", tunnel.api),
    ]


def _ticket_key(shard: str, ticket_hash: bytes) -> str:
    return f"{shard_prefix(shard)}ticket:{ticket_hash.hex()}"


def open_tunnels(redis: Redis, clock: Clock, *, publishes: bool) -> TunnelStores:
    """Return the stores.  publishes: whether scripts publish notices, see `open_state`."""
    keys = TunnelKeys(redis, channel=channel_name("") if publishes else "")
    index = RedisTunnelIndex(redis, keys, clock)
    return TunnelStores(
        RedisTicketStore(redis, clock),
        RedisTunnelStore(redis, keys, index, clock),
        index,
        RedisTunnelStream(redis, keys, clock),
        RedisTunnelInbox(redis, clock),
    )
