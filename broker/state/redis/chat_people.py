"""Chat sessions and conversations in Redis. `chat_keys.py` describes the keys."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from broker.chat.model import (
    CHANGES_NOTICE,
    Change,
    ChangeKind,
    ChatSession,
    Conversation,
    Person,
    Retention,
    RoomKey,
)
from broker.chat.ports import CHAT_SESSIONS_MAX, CONVERSATIONS_MAX
from broker.infrastructure.clock import Clock
from broker.infrastructure.codec import decoder, encode
from broker.infrastructure.redis import Redis
from broker.infrastructure.redis.scripts import script
from broker.state.redis.chat_changes import ANNOUNCE, ChatChanges
from broker.state.redis.chat_keys import digest, person_key, room_key
from broker.state.redis.encoding import decode_or_none, to_milliseconds, ttl_milliseconds
from broker.state.redis.keys import EXPIRE, shard_prefix

PUT_SESSION = script(
    EXPIRE
    + """
local hash, value, ends_at, ttl, limit, prefix = unpack(ARGV)
local surplus = redis.call('ZCARD', KEYS[2]) + 1 - limit
if surplus > 0 then
  for _, other in ipairs(redis.call('ZRANGE', KEYS[2], 0, surplus - 1)) do
    redis.call('DEL', prefix .. other)
    redis.call('ZREM', KEYS[2], other)
  end
end
redis.call('SET', KEYS[1], value, 'PX', ttl)
redis.call('ZADD', KEYS[2], ends_at, hash)
expire(KEYS[2], ttl)
"""
)
"""Ended sessions are first in the index and are removed first."""

EXTEND_SESSION = script(
    EXPIRE
    + """
local hash, expires_at, ends_at, ttl, index = unpack(ARGV)
local stored = redis.call('GET', KEYS[1])
if not stored then
  return 0
end
local person, text = string.match(stored, '^%S+ (%S+) (.*)$')
redis.call('SET', KEYS[1], table.concat({expires_at, person, text}, ' '), 'PX', ttl)
redis.call('ZADD', index .. person, ends_at, hash)
expire(index .. person, ttl)
return 1
"""
)

END_SESSION = script("""
local stored = redis.call('GET', KEYS[1])
if stored then
  redis.call('DEL', KEYS[1])
  redis.call('ZREM', ARGV[2] .. string.match(stored, '^%S+ (%S+)'), ARGV[1])
end
""")

PARSE = """
local pattern = '^(%S+) (%d+) (%S+) (%d+) (.*)$'

local function parse(stored)
  local epoch, offset, at, seen, peer = string.match(stored, pattern)
  return epoch, tonumber(offset), at, tonumber(seen), peer
end
"""

TOUCH = script(
    ANNOUNCE
    + PARSE
    + EXPIRE
    + """
local chats, order, instances = unpack(KEYS)
local room, epoch, offset, at, seen, peer, has_name = unpack(ARGV, 7, 13)
local first, seconds, limit, clock = unpack(ARGV, 14, 17)
local ends_at = redis.call('ZSCORE', order, room)
if ends_at and tonumber(ends_at) > tonumber(clock) then
  local old_epoch, old_offset, old_at, old_seen, old_peer =
    parse(redis.call('HGET', chats, room))
  if has_name == '0' then
    peer = old_peer
  end
  if old_epoch == epoch then
    offset, seen = math.max(offset, old_offset), math.max(seen, old_seen)
    at = tonumber(at) > tonumber(old_at) and at or old_at
  end
end
redis.call('HSET', chats, room, table.concat({epoch, offset, at, seen, peer}, ' '))
redis.call('ZADD', order, at + seconds, room)
if redis.call('ZCARD', order) > tonumber(limit) then
  redis.call('HDEL', chats, redis.call('ZPOPMIN', order)[1])
end
local ttl = math.max(1, math.ceil((at + seconds - clock) * 1000))
expire(chats, ttl)
expire(order, ttl)
return announce(instances, first)
"""
)

OF_PERSON = script("""
local found = {}
for _, room in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[1], '+inf')) do
  found[#found + 1] = {room, redis.call('HGET', KEYS[1], room)}
end
return found
""")

SEE = script(
    PARSE
    + """
local stored = redis.call('HGET', KEYS[1], ARGV[1])
if stored then
  local epoch, offset, at, seen, peer = parse(stored)
  seen = math.max(seen, math.min(offset, tonumber(ARGV[2])))
  redis.call('HSET', KEYS[1], ARGV[1], table.concat({epoch, offset, at, seen, peer}, ' '))
end
"""
)

_decode_session = decoder(ChatSession)
_decode_peer = decoder(tuple[str, str | None])


class RedisChatSessionStore:
    def __init__(self, redis: Redis, clock: Clock) -> None:
        self._redis = redis
        self._clock = clock

    async def put(self, shard: str, secret_hash: bytes, session: ChatSession) -> None:
        person = digest(session.app, session.subject)
        await self._redis.run(
            PUT_SESSION,
            [_session_key(shard, secret_hash), _index_prefix(shard) + person],
            secret_hash.hex(),
            f"{session.expires_at} {person} ".encode() + encode(session),
            to_milliseconds(session.expires_at),
            ttl_milliseconds(session.expires_at - self._clock()),
            CHAT_SESSIONS_MAX,
            _session_prefix(shard),
        )

    async def find(self, shard: str, secret_hash: bytes) -> ChatSession | None:
        stored = await self._redis.call("GET", _session_key(shard, secret_hash))
        if stored is None:
            return None
        expires_at, _, text = stored.split(b" ", 2)
        session = decode_or_none(_decode_session, text)
        return session and replace(session, expires_at=float(expires_at))

    async def extend(self, shard: str, secret_hash: bytes, expires_at: float) -> bool:
        return bool(
            await self._redis.run(
                EXTEND_SESSION,
                [_session_key(shard, secret_hash)],
                secret_hash.hex(),
                str(expires_at),
                to_milliseconds(expires_at),
                ttl_milliseconds(expires_at - self._clock()),
                _index_prefix(shard),
            )
        )

    async def end(self, shard: str, secret_hash: bytes) -> None:
        key, index = _session_key(shard, secret_hash), _index_prefix(shard)
        await self._redis.run(END_SESSION, [key], secret_hash.hex(), index)


class RedisConversationStore:
    def __init__(self, redis: Redis, changes: ChatChanges, clock: Clock) -> None:
        self._redis = redis
        self._changes = changes
        self._clock = clock

    async def touch(
        self, person: Person, conversation: Conversation, *, first: int, retention: Retention
    ) -> Collection[str]:
        now = self._clock()
        room, subject, name, epoch, offset, at, seen = conversation
        change = Change(ChangeKind.CONVERSATION, RoomKey(person.app, room), first, person.subject)
        pending = await self._redis.run(
            TOUCH,
            [*_chat_keys(person), room_key("room-instances", person.room)],
            *self._changes.arguments(change, CHANGES_NOTICE, now),
            *(room, epoch, offset, str(at), seen, encode((subject, name)), int(name is not None)),
            *(first, str(retention.seconds), CONVERSATIONS_MAX, str(now)),
        )
        return await self._changes.complete(change, pending)

    async def of(self, person: Person, *, now: float) -> Sequence[Conversation]:
        found = await self._redis.run(OF_PERSON, _chat_keys(person), str(now))
        parsed = [_parse_conversation(*pair) for pair in found]
        conversations = [one for one in parsed if one is not None]
        return sorted(conversations, key=lambda one: one.at, reverse=True)

    async def see(self, person: Person, room: str, offset: int) -> None:
        await self._redis.run(SEE, [_chat_keys(person)[0]], room, offset)


def _session_prefix(shard: str) -> str:
    return f"{shard_prefix(shard)}chat-session:"


def _session_key(shard: str, secret_hash: bytes) -> str:
    return _session_prefix(shard) + secret_hash.hex()


def _index_prefix(shard: str) -> str:
    return f"{shard_prefix(shard)}chat-sessions:"


def _chat_keys(person: Person) -> list[str]:
    return [person_key("chats", person), person_key("chats-order", person)]


def _parse_conversation(room: bytes, stored: bytes) -> Conversation | None:
    epoch, offset, at, seen, peer = stored.split(b" ", 4)
    decoded = decode_or_none(_decode_peer, peer)
    if decoded is None:
        return None
    return Conversation(room.decode(), *decoded, epoch.decode(), int(offset), float(at), int(seen))
