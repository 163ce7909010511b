"""The changes that instances have not applied, in Redis."""

from __future__ import annotations

import asyncio
import secrets
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

TAKE = script(
    MARK
    + """
local changes, taken, token = unpack(KEYS)
if redis.call('GET', token) == ARGV[1] then
  redis.call('DEL', taken)
end
local all = redis.call('HGETALL', changes)
for i = 1, #all, 2 do
  mark(taken, all[i], all[i + 1], ARGV[3])
end
redis.call('DEL', changes)
redis.call('SET', token, ARGV[2], 'PX', ARGV[3])
return redis.call('HGETALL', taken)
"""
)
"""Moves changes from `changes` to `taken`, and returns all in `taken`.

They remain there until a call has the token of this one: if a reply is lost, the next call returns
them again.
"""


class ChatChanges:
    """Marks changes for instances.

    publishes: whether scripts publish notices, see `open_state`.
    """

    def __init__(self, redis: Redis, *, publishes: bool) -> None:
        self._redis = redis
        self._home = shard_prefix(SHARDS[0]) if redis.is_single_server else ""
        self._channel = channel_name("") if publishes else ""
        self._received: dict[str, str] = {}

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
                *(
                    self._redis.run(MARK_ONE, [self._key("room-changes", one)], *arguments)
                    for one in instances
                )
            )
        return instances

    async def take(self, instance: str) -> Sequence[Change]:
        kinds = ("room-changes", "room-taken", "room-taken-token")
        token, received = secrets.token_urlsafe(8), self._received.get(instance, "")
        found = await self._redis.run(
            TAKE,
            [self._key(kind, instance) for kind in kinds],
            received,
            token,
            to_milliseconds(MARK_TTL),
        )
        self._received[instance] = token
        return [_parse(*pair) for pair in zip(found[::2], found[1::2], strict=True)]

    def _key(self, kind: str, instance: str) -> str:
        return f"{self._home or shard_prefix(shard_of(instance))}{kind}:{instance}"


def _field(change: Change) -> str:
    return f"{change.kind}/{room_id(change.room)}/{change.subject or change.epoch}"


def _parse(field: bytes, offset: bytes) -> Change:
    kind, app, name, part = field.decode().split("/", 3)
    change = Change(ChangeKind(kind), parse_room_id(f"{app}/{name}"), int(offset))
    is_of_room = change.kind is ChangeKind.ENTRIES
    return change._replace(epoch=part) if is_of_room else change._replace(subject=part)
