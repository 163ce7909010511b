"""The changes that instances have not applied, in Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from broker.chat.model import Change, ChangeKind, parse_room_id, room_id
from broker.chat.ports import MARK_TTL
from broker.infrastructure.coordination import Notice
from broker.infrastructure.redis import Redis
from broker.infrastructure.redis.channels import channel_name, encode_notice
from broker.infrastructure.redis.scripts import CommandPart, script
from broker.infrastructure.sharding import SHARDS, shard_of
from broker.state.redis.encoding import to_milliseconds
from broker.state.redis.keys import shard_prefix

MARK = """
local function mark(changes, field, offset, ttl)
  local known = tonumber(redis.call('HGET', changes, field))
  local choose = string.sub(field, 1, 12) == 'conversation' and math.min or math.max
  redis.call('HSET', changes, field, choose(known or tonumber(offset), tonumber(offset)))
  redis.call('PEXPIRE', changes, ttl)
end
"""

PRESENT = """
local function present(instances, now)
  local found = {}
  local all = redis.call('HGETALL', instances)
  for i = 1, #all, 2 do
    if tonumber(string.match(all[i + 1], '%d+$')) > tonumber(now) then
      found[#found + 1] = all[i]
    end
  end
  return found
end
"""
"""The instances with members in a room."""

ANNOUNCE = (
    MARK
    + PRESENT
    + """
local home, channel, now, field, notice, mark_ttl = unpack(ARGV, 1, 6)

local function announce(instances, offset)
  local pending = {}
  for _, instance in ipairs(present(instances, now)) do
    if home ~= '' then
      mark(home .. 'room-changes:' .. instance, field, offset, mark_ttl)
    end
    if channel == '' or type(redis.pcall('PUBLISH', channel .. instance, notice)) ~= 'number' then
      pending[#pending + 1] = instance
    end
  end
  return pending
end
"""
)
"""Begins a script whose first arguments are `ChatChanges.arguments`.

`announce` marks a change for the instances with members, and publishes the notice. It returns the
instances that the caller must notify. On a Cluster, the caller marks the change.
"""

MARK_ONE = script(MARK + "mark(KEYS[1], ARGV[1], ARGV[2], ARGV[3])")

TAKE = script("""
local changes = redis.call('HGETALL', KEYS[1])
redis.call('DEL', KEYS[1])
return changes
""")


class ChatChanges:
    """Marks changes for instances.

    publishes: whether scripts publish notices, see `open_state`.
    """

    def __init__(self, redis: Redis, *, publishes: bool) -> None:
        self._redis = redis
        self._home = shard_prefix(SHARDS[0]) if redis.is_single_server else ""
        self._channel = channel_name("") if publishes else ""

    def arguments(self, change: Change, notice: Notice, now: float) -> tuple[CommandPart, ...]:
        """Return the arguments of `ANNOUNCE`."""
        return (
            self._home,
            self._channel,
            to_milliseconds(now),
            _field(change),
            encode_notice(notice),
            to_milliseconds(MARK_TTL),
        )

    async def complete(self, change: Change, pending: Sequence[bytes]) -> tuple[str, ...]:
        """Mark a change if its script has not. Return the instances that the caller notifies."""
        instances = tuple(instance.decode() for instance in pending)
        if not self._home:
            arguments = _field(change), change.offset, to_milliseconds(MARK_TTL)
            await asyncio.gather(
                *(self._redis.run(MARK_ONE, [self._key(one)], *arguments) for one in instances)
            )
        return instances

    async def take(self, instance: str) -> Sequence[Change]:
        found = await self._redis.run(TAKE, [self._key(instance)])
        return [_parse(*pair) for pair in zip(found[::2], found[1::2], strict=True)]

    def _key(self, instance: str) -> str:
        name = f"room-changes:{instance}"
        return (self._home or shard_prefix(shard_of(name))) + name


def _field(change: Change) -> str:
    return f"{change.kind}/{room_id(change.room)}/{change.subject}"


def _parse(field: bytes, offset: bytes) -> Change:
    kind, app, name, subject = field.decode().split("/", 3)
    return Change(ChangeKind(kind), parse_room_id(f"{app}/{name}"), int(offset), subject)
