"""Entries of rooms in Redis. `chat_keys.py` describes the keys."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from broker.chat.model import (
    Appended,
    Change,
    ChangeKind,
    Deletion,
    Entry,
    Message,
    NewMessage,
    Restriction,
    RestrictionKind,
    Retention,
    RoomKey,
    RoomPage,
    room_id,
    room_notice,
)
from broker.chat.ports import MESSAGE_ID_TTL
from broker.infrastructure.codec import decoder, encode
from broker.infrastructure.redis import Redis, Reply
from broker.infrastructure.redis.scripts import CommandPart, script
from broker.infrastructure.sharding import SHARDS, shard_of
from broker.state.redis.chat_changes import ANNOUNCE, ChatChanges
from broker.state.redis.chat_keys import room_key
from broker.state.redis.chat_restrictions import restriction_key
from broker.state.redis.encoding import decode_or_none, to_milliseconds, ttl_milliseconds
from broker.state.redis.keys import shard_prefix
from broker.state.redis.replication import Replication

OFFSET_MAX = 2**53
"""Offsets above this are compared as this one: Lua has no greater integers."""

TRIM_BATCH = 10
"""Rooms of one shard in one `trim`. Redis runs nothing else during a script."""

DROP = """
local function drop_old(record, entries, limit, oldest)
  local head, dropped, floor = tonumber(redis.call('HGET', record, 'head')), 0, nil
  while true do
    local first = redis.call('XRANGE', entries, '-', '+', 'COUNT', 1)[1]
    local offset = first and tonumber(string.match(first[1], '^%d+'))
    if not first or (offset > head - limit and tonumber(first[2][2]) > tonumber(oldest)) then
      if dropped > 0 or not first then
        redis.call('HSET', record, 'floor', floor or head)
      end
      return dropped, first and first[2][2]
    end
    redis.call('XDEL', entries, first[1])
    dropped, floor = dropped + 1, offset
  end
end
"""
"""Drops entries beyond the retention. Returns how many, and the time of the first one left. A room
without entries has lost all of them, because a deletion is an entry."""

ADD = """
local record, entries, place, instances, rooms = unpack(KEYS, 1, 5)
local room, at, kind, value, place_ttl, limit, seconds, ttl = unpack(ARGV, 7, 14)

local function add(epoch)
  local offset = redis.call('HINCRBY', record, 'head', 1)
  redis.call('XADD', entries, offset .. '-0', 'at', at, kind, value)
  local _, first_at = drop_old(record, entries, limit, at - seconds)
  redis.call('PEXPIRE', entries, ttl)
  redis.call('PEXPIRE', record, 2 * ttl)
  if first_at then
    redis.call('ZADD', rooms, first_at, room)
    redis.call('PEXPIRE', rooms, 2 * ttl)
  end
  redis.call('SET', place, table.concat({epoch, offset, at}, ' '), 'PX', place_ttl)
  field = field .. epoch
  return {epoch, offset, at, announce(instances, offset)}
end
"""

APPEND = script(
    ANNOUNCE
    + DROP
    + ADD
    + """
local restriction, until_ = 0, at
for i = 1, 2 do
  local ends_at = redis.call('GET', KEYS[5 + i])
  if ends_at and tonumber(ends_at) > tonumber(until_) then
    restriction, until_ = i, ends_at
  end
end
if restriction > 0 then
  return {restriction, until_}
end
local known = redis.call('GET', place)
if known then
  local epoch, offset, first_at = string.match(known, '^(%S+) (%S+) (%S+)$')
  return {epoch, tonumber(offset), first_at, {}}
end
local epoch = redis.call('HGET', record, 'epoch')
if not epoch then
  epoch = ARGV[15]
  redis.call('DEL', entries)
  redis.call('HSET', record, 'epoch', epoch, 'head', 0, 'floor', 0)
end
return add(epoch)
"""
)
"""Returns a place, or the number of a restriction and its end."""

DELETE = script(
    ANNOUNCE
    + DROP
    + ADD
    + """
local epoch = redis.call('HGET', record, 'epoch')
if not epoch then
  return false
end
drop_old(record, entries, limit, at - seconds)
local id = ARGV[15] .. '-0'
local found = redis.call('XRANGE', entries, id, id)[1]
if not found or found[2][3] ~= 'message' then
  return false
end
redis.call('XDEL', entries, id)
return add(epoch)
"""
)

READ = script(
    DROP
    + """
local record, entries = unpack(KEYS)
local limit, oldest, low, high, count = unpack(ARGV)
if redis.call('HEXISTS', record, 'epoch') == 0 then
  return false
end
drop_old(record, entries, limit, oldest)
local found = redis.call('XREVRANGE', entries, high .. '-0', low .. '-0', 'COUNT', count)
local epoch, head, floor = unpack(redis.call('HMGET', record, 'epoch', 'head', 'floor'))
return {epoch, tonumber(head), tonumber(floor), found}
"""
)

TRIM = script(
    DROP
    + """
local limit, oldest, prefix, count = unpack(ARGV)
local dropped = 0
for _, room in ipairs(
  redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', oldest, 'LIMIT', 0, count)) do
  local record, first_at = prefix .. 'room:' .. room, false
  if redis.call('HEXISTS', record, 'epoch') == 1 then
    local number
    number, first_at = drop_old(record, prefix .. 'room-entries:' .. room, limit, oldest)
    dropped = dropped + number
  end
  if first_at then
    redis.call('ZADD', KEYS[1], first_at, room)
  else
    redis.call('ZREM', KEYS[1], room)
  end
end
return dropped
"""
)

_decode_message = decoder(NewMessage)
_decode_deletion = decoder(tuple[int, str])


class RedisRoomStore:
    """replication: waits for the replicas before the place of an entry is returned."""

    def __init__(self, redis: Redis, changes: ChatChanges, replication: Replication) -> None:
        self._redis = redis
        self._changes = changes
        self._replication = replication

    async def append(
        self, room: RoomKey, message: NewMessage, *, retention: Retention
    ) -> Appended | Restriction:
        subject = message.sender.subject
        place = room_key("room-place", room, subject, message.id)
        restrictions = [restriction_key(room, subject, kind) for kind in RestrictionKind]
        change = Change(ChangeKind.ENTRIES, room)
        found = await self._redis.run(
            APPEND,
            [*_entry_keys(room, place), *restrictions],
            *self._changes.arguments(change, room_notice(room), message.at),
            *_entry_arguments(room, message.at, retention, "message", encode(message)),
            secrets.token_urlsafe(8),
        )
        if len(found) == 2:
            number, until = found
            return Restriction(tuple(RestrictionKind)[number - 1], float(until))
        return await self._appended(change, found, place)

    async def delete(
        self, room: RoomKey, offset: int, *, by: str, at: float, retention: Retention
    ) -> Appended | None:
        place = room_key("room-place", room, "deleted", str(offset))
        change = Change(ChangeKind.ENTRIES, room)
        found = await self._redis.run(
            DELETE,
            _entry_keys(room, place),
            *self._changes.arguments(change, room_notice(room), at),
            *_entry_arguments(room, at, retention, "deletion", encode((offset, by))),
            _within_lua(offset),
        )
        return await self._appended(change, found, place) if found else None

    async def _appended(self, change: Change, found: Reply, place: str) -> Appended:
        name, offset, at, pending = found
        epoch = name.decode()
        changed = change._replace(offset=offset, epoch=epoch)
        notified = await self._changes.complete(changed, pending)
        await self._replication.wait_for(place, b"%b %d " % (name, offset))
        return Appended(epoch, offset, float(at), notified)

    async def read(
        self,
        room: RoomKey,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int,
        now: float,
        retention: Retention,
    ) -> RoomPage:
        found = await self._redis.run(
            READ,
            [room_key("room", room), room_key("room-entries", room)],
            retention.entries,
            str(now - retention.seconds),
            _within_lua(after + 1),
            OFFSET_MAX if before is None else _within_lua(before - 1),
            limit + 1,
        )
        if not found:
            return RoomPage("", 0, 0, (), False)
        epoch, head, floor, stored = found
        entries = [entry for entry in map(_parse_entry, stored[:limit]) if entry is not None]
        return RoomPage(epoch.decode(), head, floor, tuple(entries[::-1]), len(stored) > limit)

    async def changes(self, instance: str) -> Sequence[Change]:
        return await self._changes.take(instance)

    async def trim(self, *, now: float, retention: Retention) -> int:
        dropped = 0
        oldest = str(now - retention.seconds)
        for shard in SHARDS:
            prefix = shard_prefix(shard)
            dropped += await self._redis.run(
                TRIM, [f"{prefix}rooms"], retention.entries, oldest, prefix, TRIM_BATCH
            )
        return dropped


def _entry_keys(room: RoomKey, place: str) -> list[str]:
    rooms = f"{shard_prefix(shard_of(room.name))}rooms"
    return [
        room_key("room", room),
        room_key("room-entries", room),
        place,
        room_key("room-instances", room),
        rooms,
    ]


def _entry_arguments(
    room: RoomKey, at: float, retention: Retention, kind: str, value: bytes
) -> list[CommandPart]:
    return [
        room_id(room),
        str(at),
        kind,
        value,
        to_milliseconds(MESSAGE_ID_TTL),
        retention.entries,
        str(retention.seconds),
        ttl_milliseconds(retention.seconds),
    ]


def _within_lua(offset: int) -> int:
    return min(max(offset, 0), OFFSET_MAX)


def _parse_entry(found: Reply) -> Entry | None:
    entry_id, (_, at, kind, value) = found
    position = int(entry_id.partition(b"-")[0])
    if kind == b"message":
        message = decode_or_none(_decode_message, value)
        return None if message is None else _numbered(message, position)
    deletion = decode_or_none(_decode_deletion, value)
    if deletion is None:
        return None
    offset, by = deletion
    return Deletion(entry=position, offset=offset, by=by, at=float(at))


def _numbered(message: NewMessage, offset: int) -> Message:
    return Message(
        id=message.id,
        sender=message.sender,
        text=message.text,
        data=message.data,
        at=message.at,
        offset=offset,
    )
