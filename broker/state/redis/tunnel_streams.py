"""Messages for the clients of tunnels in Redis. `tunnel_keys.py` describes the keys."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence

from broker.infrastructure.clock import Clock
from broker.infrastructure.codec import decoder
from broker.infrastructure.coordination import Notice
from broker.infrastructure.redis import Redis, Reply
from broker.infrastructure.redis.channels import encode_notice
from broker.infrastructure.redis.scripts import CommandPart, script
from broker.state.redis.encoding import decode_or_none, to_milliseconds, ttl_milliseconds
from broker.state.redis.tunnel_keys import (
    EXPIRE,
    KEY,
    NOTIFY,
    REMEMBER,
    TunnelKeys,
    tunnel_key,
)
from broker.tunnels.model import ClosedTunnel, StoredMessage
from broker.tunnels.ports import (
    PUSH_ID_TTL,
    PUSH_IDS_MAX,
    READ_MAX,
    RECORD_TTL,
    STREAM_MAX,
    TUNNEL_NEWS,
    AppendedMessage,
    Push,
    StreamReading,
)

DROP = """
local function drop(ends, data, offsets)
  if #offsets > 0 then
    redis.call('ZREM', ends, unpack(offsets))
    redis.call('HDEL', data, unpack(offsets))
  end
end

local function drop_expired(ends, data, now)
  drop(ends, data, redis.call('ZRANGEBYSCORE', ends, '-inf', now))
end

local function first_offset(ends, last)
  return last - redis.call('ZCARD', ends) + 1
end

local function drop_first(ends, data, first, last)
  local offsets = {}
  for offset = first, last do
    offsets[#offsets + 1] = offset
  end
  drop(ends, data, offsets)
end
"""
"""Offsets have no gap, and each message ends with or after the one before it."""

APPEND = script(
    KEY
    + EXPIRE
    + NOTIFY
    + REMEMBER
    + DROP
    + f"""
local function store(id, offset, value, now, keep)
  local ends, data = key('tunnel-ends', id), key('tunnel-data', id)
  drop_expired(ends, data, now)
  local ends_at = math.max(now + keep, redis.call('ZRANGE', ends, -1, -1, 'WITHSCORES')[2] or 0)
  redis.call('HSET', data, offset, value)
  redis.call('ZADD', ends, ends_at, offset)
  drop_first(ends, data, first_offset(ends, offset), offset - {STREAM_MAX})
  expire(ends, ends_at - now)
  expire(data, ends_at - now)
end

local owner, api, marks, channel, now, mark_ttl, id_ttl = unpack(ARGV, 1, 7)
local results, notified = {{}}, {{}}
for i = 8, #ARGV, 5 do
  local id, value, push_id, keep, notice = unpack(ARGV, i, i + 4)
  local record = key('tunnel', id)
  local stored = redis.call('HMGET', record, 'owner', 'api', 'open', 'instance', 'closed')
  if stored[1] ~= owner or stored[2] ~= api or stored[5] then
    results[#results + 1] = false
  else
    local pushes, order = key('tunnel-pushes', id), key('tunnel-pushes-order', id)
    local offset = push_id ~= '' and known(pushes, push_id, now)
    if not offset then
      offset = redis.call('HINCRBY', record, 'last', 1)
      store(id, offset, value, now, keep)
      if push_id ~= '' then
        remember(pushes, order, push_id, offset, now, id_ttl, {PUSH_IDS_MAX})
      end
    end
    local holder = stored[3] == '1' and stored[4] or ''
    notified[id] = notified[id] or notify(marks, channel, notice, holder, id, mark_ttl)
    results[#results + 1] = {{tonumber(offset), tonumber(stored[3]), notified[id]}}
  end
end
return results
"""
)

READ = script(
    KEY
    + DROP
    + f"""
local instance, marks, now = unpack(ARGV, 1, 3)
local results = {{}}
for i = 4, #ARGV, 2 do
  local id, position = ARGV[i], tonumber(ARGV[i + 1])
  redis.call('SREM', marks .. 'tunnels-changed:' .. instance, id)
  local stored = redis.call('HMGET', key('tunnel', id), 'attachment', 'last', 'closed')
  if not stored[1] then
    results[#results + 1] = false
  else
    local ends, data = key('tunnel-ends', id), key('tunnel-data', id)
    drop_expired(ends, data, now)
    local last = tonumber(stored[2] or 0)
    local first = first_offset(ends, last)
    local start, page = math.max(first, position + 1), {{}}
    for offset = start, math.min(last, start + {READ_MAX - 1}) do
      page[#page + 1] = offset
    end
    local messages = #page > 0 and redis.call('HMGET', data, unpack(page)) or {{}}
    local is_complete = first <= position + 1 and 1 or 0
    results[#results + 1] =
      {{tonumber(stored[1]), last, is_complete, stored[3] or '', page, messages}}
  end
end
return results
"""
)

ACK = script(
    KEY
    + DROP
    + """
for i = 1, #ARGV, 2 do
  local id, last = ARGV[i], redis.call('HGET', key('tunnel', ARGV[i]), 'last')
  if last then
    local ends, data = key('tunnel-ends', id), key('tunnel-data', id)
    drop_first(ends, data, first_offset(ends, last), math.min(last, ARGV[i + 1]))
  end
end
"""
)

CHANGED = script("""
local ids = redis.call('SMEMBERS', KEYS[1])
redis.call('DEL', KEYS[1])
return ids
""")

_decode_closed = decoder(ClosedTunnel)


class RedisTunnelStream:
    def __init__(self, redis: Redis, keys: TunnelKeys, clock: Clock) -> None:
        self._redis = redis
        self._keys = keys
        self._clock = clock

    async def append(
        self, owner: str, api: str, pushes: Sequence[Push]
    ) -> Sequence[AppendedMessage | None]:
        results: list[AppendedMessage | None] = [None] * len(pushes)

        async def append_batch(batch: Sequence[int]) -> None:
            found = await self._append(owner, api, [pushes[at] for at in batch])
            for at, one in zip(batch, found, strict=True):
                results[at] = (
                    AppendedMessage(one[0], bool(one[1]), one[2].decode()) if one else None
                )

        batches = self._keys.batches([push.tunnel_id for push in pushes])
        await asyncio.gather(*map(append_batch, batches))
        return results

    async def _append(self, owner: str, api: str, pushes: Sequence[Push]) -> list[Reply]:
        parts: list[CommandPart] = []
        for push in pushes:
            notice = encode_notice(Notice(TUNNEL_NEWS, push.tunnel_id))
            keep = ttl_milliseconds(push.keep)
            parts += [push.tunnel_id, push.data, push.id, keep, notice]
        first = pushes[0].tunnel_id
        found: list[Reply] = await self._redis.run(
            APPEND,
            [tunnel_key("tunnel", first)],
            owner,
            api,
            self._keys.marks(first),
            self._keys.channel,
            to_milliseconds(self._clock()),
            to_milliseconds(RECORD_TTL),
            to_milliseconds(PUSH_ID_TTL),
            *parts,
        )
        return found

    async def read(
        self, positions: Mapping[str, int], instance: str
    ) -> Mapping[str, StreamReading]:
        ids = list(positions)
        readings: dict[str, StreamReading] = {}

        async def read_batch(batch: Sequence[int]) -> None:
            own = [ids[at] for at in batch]
            found = await self._redis.run(
                READ,
                [tunnel_key("tunnel", own[0])],
                instance,
                self._keys.marks(own[0]),
                to_milliseconds(self._clock()),
                *(part for tunnel_id in own for part in (tunnel_id, positions[tunnel_id])),
            )
            readings.update(zip(own, map(_parse_reading, found), strict=True))

        await asyncio.gather(*map(read_batch, self._keys.batches(ids)))
        return readings

    async def ack(self, offsets: Mapping[str, int]) -> None:
        ids = list(offsets)

        async def ack_batch(batch: Sequence[int]) -> None:
            own = [ids[at] for at in batch]
            parts = (part for tunnel_id in own for part in (tunnel_id, offsets[tunnel_id]))
            await self._redis.run(ACK, [tunnel_key("tunnel", own[0])], *parts)

        await asyncio.gather(*map(ack_batch, self._keys.batches(ids)))

    async def changed(self, instance: str) -> Collection[str]:
        found: list[list[bytes]] = await asyncio.gather(
            *(
                self._redis.run(CHANGED, [self._keys.changed(shard, instance)])
                for shard in self._keys.mark_shards
            )
        )
        return [tunnel_id.decode() for part in found for tunnel_id in part]


def _parse_reading(found: Reply) -> StreamReading:
    if not found:
        return StreamReading(0)
    attachment, last, is_complete, closed, offsets, messages = found
    return StreamReading(
        attachment,
        [StoredMessage(*one) for one in zip(offsets, messages, strict=True)],
        last,
        bool(is_complete),
        decode_or_none(_decode_closed, closed[closed.index(b" ") :]) if closed else None,
    )
