"""Kicks and mutes in Redis. `chat_keys.py` describes the keys."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from broker.chat.model import (
    CHANGES_NOTICE,
    Change,
    ChangeKind,
    Restriction,
    RestrictionKind,
    RoomKey,
)
from broker.infrastructure.redis import Redis
from broker.infrastructure.redis.scripts import script
from broker.state.redis.chat_changes import ANNOUNCE, ChatChanges
from broker.state.redis.chat_keys import room_key
from broker.state.redis.encoding import ttl_milliseconds

RESTRICT = script(
    ANNOUNCE
    + """
local until_, ttl = ARGV[7], tonumber(ARGV[8])
if ttl > 0 then
  redis.call('SET', KEYS[1], until_, 'PX', ttl)
else
  redis.call('DEL', KEYS[1])
end
return announce(KEYS[2], 0)
"""
)


class RedisRestrictionStore:
    def __init__(self, redis: Redis, changes: ChatChanges) -> None:
        self._redis = redis
        self._changes = changes

    async def put(
        self, room: RoomKey, subject: str, restriction: Restriction, *, now: float
    ) -> Collection[str]:
        kind, until = restriction
        change = Change(ChangeKind.RESTRICTION, room, subject=subject)
        pending = await self._redis.run(
            RESTRICT,
            [restriction_key(room, subject, kind), room_key("room-instances", room)],
            *self._changes.arguments(change, CHANGES_NOTICE, now),
            str(until),
            ttl_milliseconds(until - now) if until > now else 0,
        )
        return await self._changes.complete(change, pending)

    async def find(self, room: RoomKey, subject: str, *, now: float) -> Sequence[Restriction]:
        keys = [restriction_key(room, subject, kind) for kind in RestrictionKind]
        stored = await self._redis.call("MGET", *keys)
        ends = zip(RestrictionKind, stored, strict=True)
        found = [Restriction(kind, float(end)) for kind, end in ends if end is not None]
        return [one for one in found if one.until > now]


def restriction_key(room: RoomKey, subject: str, kind: RestrictionKind) -> str:
    return room_key(f"room-{kind}", room, subject)
