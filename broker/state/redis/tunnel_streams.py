"""Messages for the clients of tunnels in Redis. `tunnel_keys.py` describes the keys."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence

from broker.infrastructure.codec import decoder
from broker.infrastructure.redis import Redis, Reply
from broker.infrastructure.redis.scripts import CommandPart, Script, script
from broker.state.redis.encoding import decode_or_none, to_milliseconds, ttl_milliseconds
from broker.state.redis.keys import EXPIRE
from broker.state.redis.tunnel_keys import KEY, REMEMBER, SHARED, TunnelKeys, tunnel_key
from broker.state.redis.tunnel_news import NOTIFY, RedisTunnelNews, news_of
from broker.tunnels.model import ClosedTunnel, StoredMessage
from broker.tunnels.ports import (
    PUSH_ID_TTL,
    PUSH_IDS_MAX,
    READ_MAX,
    STREAM_MAX,
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
    SHARED
    + KEY
    + EXPIRE
    + NOTIFY
    + REMEMBER
    + DROP
    + f"""
local function store(id, offset, value, keep)
  local ends, data = key('tunnel-ends', id), key('tunnel-data', id)
  drop_expired(ends, data, now)
  local ends_at = math.max(now + keep, redis.call('ZRANGE', ends, -1, -1, 'WITHSCORES')[2] or 0)
  redis.call('HSET', data, offset, value)
  redis.call('ZADD', ends, ends_at, offset)
  drop_first(ends, data, first_offset(ends, offset), offset - {STREAM_MAX})
  expire(ends, ends_at - now)
  expire(data, ends_at - now)
end

local owner, api, id_ttl = unpack(ARGV, 5, 7)
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
      store(id, offset, value, keep)
      if push_id ~= '' then
        remember(pushes, order, push_id, offset, now, id_ttl, {PUSH_IDS_MAX})
      end
    end
    local holder = stored[3] == '1' and stored[4] or ''
    notified[id] = notified[id] or notify(notice, holder, id)
    results[#results + 1] = {{tonumber(offset), tonumber(stored[3]), notified[id]}}
  end
end
return results
"""
)

READ = script(
    SHARED
    + KEY
    + DROP
    + f"""
local instance, results = ARGV[5], {{}}
for i = 6, #ARGV, 2 do
  local id, position = ARGV[i], tonumber(ARGV[i + 1])
  if home ~= '' then
    redis.call('SREM', home .. 'tunnels-changed:' .. instance, id)
  end
  local stored = redis.call('HMGET', key('tunnel', id), 'attachment', 'last', 'closed', 'open')
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
      {{tonumber(stored[1]), last, is_complete, stored[3] or '', page, messages, stored[4]}}
  end
end
return results
"""
)

ACK = script(
    KEY
    + DROP
    + """
local acknowledged = {}
for i = 1, #ARGV, 2 do
  local id, last = ARGV[i], redis.call('HGET', key('tunnel', ARGV[i]), 'last')
  if last then
    local ends, data = key('tunnel-ends', id), key('tunnel-data', id)
    drop_first(ends, data, first_offset(ends, last), math.min(last, ARGV[i + 1]))
  end
  acknowledged[#acknowledged + 1] = 1
end
return acknowledged
"""
)

_decode_closed = decoder(ClosedTunnel)


class RedisTunnelStream:
    def __init__(self, redis: Redis, keys: TunnelKeys, news: RedisTunnelNews) -> None:
        self._redis = redis
        self._keys = keys
        self._news = news

    async def append(
        self, owner: str, api: str, pushes: Sequence[Push]
    ) -> Sequence[AppendedMessage | None]:
        batches = self._keys.batches([push.tunnel_id for push in pushes])
        parts = await asyncio.gather(
            *(self._append(owner, api, [pushes[at] for at in batch]) for batch in batches)
        )
        places = (at for batch in batches for at in batch)
        found = dict(zip(places, (one for part in parts for one in part), strict=True))
        results = [_parse_appended(found[at]) for at in range(len(pushes))]
        if not self._keys.is_together:
            pairs = zip(results, pushes, strict=True)
            await self._news.mark([(one.notify, push.tunnel_id) for one, push in pairs if one])
        return results

    async def _append(self, owner: str, api: str, pushes: Sequence[Push]) -> list[Reply]:
        parts: list[CommandPart] = []
        for push in pushes:
            keep, notice = ttl_milliseconds(push.keep), news_of(push.tunnel_id)
            parts += [push.tunnel_id, push.data, push.id, keep, notice]
        found: list[Reply] = await self._redis.run(
            APPEND,
            [tunnel_key("tunnel", pushes[0].tunnel_id)],
            *self._keys.shared_arguments(),
            owner,
            api,
            to_milliseconds(PUSH_ID_TTL),
            *parts,
        )
        return found

    async def read(
        self, positions: Mapping[str, int], instance: str
    ) -> Mapping[str, StreamReading]:
        if instance and not self._keys.is_together:
            await self._news.remove(instance, positions)
        found = await self._run_in_batches(
            READ, positions, *self._keys.shared_arguments(), instance
        )
        return {tunnel_id: _parse_reading(found[tunnel_id]) for tunnel_id in positions}

    async def ack(self, offsets: Mapping[str, int]) -> None:
        await self._run_in_batches(ACK, offsets)

    async def changed(self, instance: str) -> Collection[str]:
        return await self._news.take(instance)

    async def _run_in_batches(
        self, batch_script: Script, offsets: Mapping[str, int], *first: CommandPart
    ) -> dict[str, Reply]:
        """Run a script with ids and offsets, and return its results by id."""
        ids = list(offsets)

        async def run(batch: Sequence[int]) -> Iterable[tuple[str, Reply]]:
            own = [ids[at] for at in batch]
            pairs = (part for tunnel_id in own for part in (tunnel_id, offsets[tunnel_id]))
            key = tunnel_key("tunnel", own[0])
            return zip(own, await self._redis.run(batch_script, [key], *first, *pairs), strict=True)

        parts = await asyncio.gather(*map(run, self._keys.batches(ids)))
        return {tunnel_id: reply for part in parts for tunnel_id, reply in part}


def _parse_appended(found: Reply) -> AppendedMessage | None:
    if not found:
        return None
    offset, is_open, notified = found
    return AppendedMessage(offset, bool(is_open), notified.decode())


def _parse_reading(found: Reply) -> StreamReading:
    if not found:
        return StreamReading(0)
    attachment, last, is_complete, closed, offsets, messages, is_open = found
    return StreamReading(
        attachment,
        [StoredMessage(*one) for one in zip(offsets, messages, strict=True)],
        last,
        bool(is_complete),
        decode_or_none(_decode_closed, closed[closed.index(b" ") :]) if closed else None,
        is_open == b"1",
    )
