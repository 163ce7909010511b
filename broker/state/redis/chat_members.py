"""Members of rooms in Redis. `chat_keys.py` describes the keys."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

from broker.chat.model import Member, MemberPage, Presence, RoomKey
from broker.chat.ports import MEMBER_TTL, MEMBERS_MAX
from broker.infrastructure.codec import decoder, encode
from broker.infrastructure.redis import Redis, Reply
from broker.infrastructure.redis.scripts import CommandPart, script
from broker.state.redis.chat_changes import PRESENT
from broker.state.redis.chat_keys import room_key
from broker.state.redis.encoding import decode_or_none, to_milliseconds

KEY_TTL = 2 * MEMBER_TTL
"""Seconds after the last `refresh` of a room until its keys expire. A room that has members is
refreshed much more often."""

KINDS = ("room-members", "room-joined", "room-people", "room-instances")

MEMBERS = """
local members, joined_at, people, instances = unpack(KEYS)
local instance, now = ARGV[1], ARGV[2]

local function add_to_count(name, number, ends_at)
  local stored = redis.call('HGET', instances, name) or '0 0'
  local count, known = string.match(stored, '^(%d+) (%d+)$')
  if count + number > 0 then
    redis.call('HSET', instances, name, (count + number) .. ' ' .. (ends_at or known))
  else
    redis.call('HDEL', instances, name)
  end
end

local function is_online(subject)
  for _, name in ipairs(redis.call('HKEYS', instances)) do
    if redis.call('ZSCORE', members, name .. ' ' .. subject) then
      return true
    end
  end
  return false
end

local function remove(fields)
  local left, subjects = {}, {}
  for _, field in ipairs(fields) do
    if redis.call('ZREM', members, field) == 1 then
      local name, subject = string.match(field, '^(%S+) (.*)$')
      add_to_count(name, -1)
      subjects[#subjects + 1] = subject
    end
  end
  for _, subject in ipairs(subjects) do
    if not is_online(subject) and redis.call('ZREM', joined_at, subject) == 1 then
      redis.call('HDEL', people, subject)
      left[#left + 1] = subject
    end
  end
  return left
end

local left = remove(redis.call('ZRANGEBYSCORE', members, '-inf', now))
local was_listed = redis.call('HEXISTS', instances, instance)

local function presence(joined)
  return {
    redis.call('ZCARD', joined_at), redis.call('HKEYS', instances), joined, left, was_listed}
end
"""
"""Removes members whose time has ended, and tells who left by that."""

REFRESH = script(
    MEMBERS
    + """
local ends_at, ttl = ARGV[3], ARGV[4]
local joined, added = {}, 0
for i = 5, #ARGV, 3 do
  local subject, at, person = unpack(ARGV, i, i + 2)
  added = added + redis.call('ZADD', members, ends_at, instance .. ' ' .. subject)
  if redis.call('ZADD', joined_at, 'NX', at, subject) == 1 then
    joined[#joined + 1] = subject
  end
  if redis.call('HGET', people, subject) ~= person then
    redis.call('HSET', people, subject, person)
  end
end
if #ARGV > 4 then
  add_to_count(instance, added, ends_at)
end
for _, name in ipairs(KEYS) do
  redis.call('PEXPIRE', name, ttl)
end
return presence(joined)
"""
)

LEAVE = script(
    MEMBERS
    + """
local fields = {}
for i = 3, #ARGV do
  fields[#fields + 1] = instance .. ' ' .. ARGV[i]
end
for _, subject in ipairs(remove(fields)) do
  left[#left + 1] = subject
end
return presence({})
"""
)

PAGE = script("""
local members, joined_at, people, instances = unpack(KEYS)
local now, limit = tonumber(ARGV[1]), tonumber(ARGV[2])
local offline, count = {}, 0

local function is_online(subject)
  for _, name in ipairs(redis.call('HKEYS', instances)) do
    local ends_at = redis.call('ZSCORE', members, name .. ' ' .. subject)
    if ends_at and tonumber(ends_at) > now then
      return true
    end
  end
  return false
end

for _, field in ipairs(redis.call('ZRANGEBYSCORE', members, '-inf', now)) do
  local subject = string.match(field, '^%S+ (.*)$')
  if not offline[subject] and not is_online(subject) then
    offline[subject], count = true, count + 1
  end
end
local found, page = redis.call('ZRANGE', joined_at, -limit - count, -1, 'WITHSCORES'), {}
for i = #found - 1, 1, -2 do
  local subject = found[i]
  if not offline[subject] and #page < limit then
    page[#page + 1] = {subject, found[i + 1], redis.call('HGET', people, subject)}
  end
end
return {redis.call('ZCARD', joined_at) - count, page}
""")

INSTANCES = script(PRESENT + "return present(KEYS[1], ARGV[1])")

_decode_names = decoder(tuple[str | None, str | None])


class RedisMemberStore:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def refresh(
        self, instance: str, rooms: Mapping[RoomKey, Collection[Member]], *, now: float
    ) -> Mapping[RoomKey, Presence]:
        presences = await asyncio.gather(
            *(self._refresh(instance, room, members, now) for room, members in rooms.items())
        )
        return dict(zip(rooms, presences, strict=True))

    async def leave(
        self, instance: str, room: RoomKey, subjects: Collection[str], *, now: float
    ) -> Presence:
        found = await self._redis.run(LEAVE, _keys(room), instance, to_milliseconds(now), *subjects)
        return _parse_presence(found)

    async def page(self, room: RoomKey, *, now: float) -> MemberPage:
        online, found = await self._redis.run(PAGE, _keys(room), to_milliseconds(now), MEMBERS_MAX)
        members = [member for member in map(_parse_member, found) if member is not None]
        return MemberPage(tuple(members), online)

    async def instances(self, room: RoomKey, *, now: float) -> Collection[str]:
        key = room_key("room-instances", room)
        found = await self._redis.run(INSTANCES, [key], to_milliseconds(now))
        return [name.decode() for name in found]

    async def _refresh(
        self, instance: str, room: RoomKey, members: Collection[Member], now: float
    ) -> Presence:
        parts: list[CommandPart] = []
        for member in members:
            names = encode((member.name, member.nickname))
            parts += [member.subject, str(member.joined_at), names]
        found = await self._redis.run(
            REFRESH,
            _keys(room),
            instance,
            to_milliseconds(now),
            to_milliseconds(now + MEMBER_TTL),
            to_milliseconds(KEY_TTL),
            *parts,
        )
        return _parse_presence(found)


def _keys(room: RoomKey) -> list[str]:
    return [room_key(kind, room) for kind in KINDS]


def _parse_presence(found: Reply) -> Presence:
    """Someone whose time had ended and who returns in the same call has neither joined nor left."""
    online, *lists, was_listed = found
    instances, joined, left = (tuple(one.decode() for one in names) for names in lists)
    return Presence(
        online,
        instances,
        tuple(one for one in joined if one not in left),
        tuple(one for one in left if one not in joined),
        bool(was_listed),
    )


def _parse_member(found: Reply) -> Member | None:
    subject, joined_at, stored = found
    names = decode_or_none(_decode_names, stored)
    if names is None:
        return None
    name, nickname = names
    return Member(
        subject=subject.decode(), name=name, nickname=nickname, joined_at=float(joined_at)
    )
