"""Sessions in Redis, with an index of each person's sessions.

    scanlogin:{s}:session:<id>    the session as JSON
    scanlogin:{s}:person:<name>   sorted set: ids of the person's sessions, by end time

`s` is the person's shard, the first character of the session's id. All keys of a person are
on the same node of a Cluster, so that each change is one script.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from broker.identity.model import Phone
from broker.infrastructure.clock import Clock
from broker.infrastructure.codec import decoder, encode
from broker.infrastructure.redis import Redis
from broker.infrastructure.redis.scripts import script
from broker.infrastructure.sharding import shard_of
from broker.sessions.model import Session, person_key
from broker.sessions.ports import SESSIONS_MAX
from broker.state.redis.encoding import decode_or_none, to_milliseconds, ttl_milliseconds

PUT_SESSION = script("""
local surplus = redis.call('ZCARD', KEYS[2]) + 1 - ARGV[6]
if surplus > 0 then
  for _, id in ipairs(redis.call('ZRANGE', KEYS[2], 0, surplus - 1)) do
    redis.call('DEL', ARGV[7] .. id)
    redis.call('ZREM', KEYS[2], id)
  end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('ZADD', KEYS[2], ARGV[5], ARGV[4])
if redis.call('PTTL', KEYS[2]) < tonumber(ARGV[3]) then
  redis.call('PEXPIRE', KEYS[2], ARGV[3])
end
""")
"""The index expires when the last session in it ends. Ended sessions are first in the index
and are removed first."""

EXTEND_SESSION = script("""
if not redis.call('SET', KEYS[1], ARGV[1], 'XX', 'PX', ARGV[2]) then
  return 0
end
redis.call('ZADD', KEYS[2], 'XX', ARGV[4], ARGV[3])
return 1
""")

SESSIONS_OF_PERSON = script("""
local found = {}
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local session = redis.call('GET', ARGV[1] .. id)
  if session then
    table.insert(found, session)
  end
end
return found
""")

END_SESSIONS = script("""
local ids = ARGV[2] and {ARGV[2]} or redis.call('ZRANGE', KEYS[1], 0, -1)
local ended = 0
for _, id in ipairs(ids) do
  ended = ended + redis.call('DEL', ARGV[1] .. id)
  redis.call('ZREM', KEYS[1], id)
end
return ended
""")


_decode_session = decoder(Session)


class RedisSessionStore:
    def __init__(self, redis: Redis, clock: Clock) -> None:
        self._redis = redis
        self._clock = clock

    async def put(self, session: Session) -> None:
        await self._redis.run(
            PUT_SESSION,
            [_session_key(session.id), _person_key(session.phone)],
            encode(session),
            self._ttl(session.expires_at),
            self._ttl(session.latest_end),
            session.id,
            to_milliseconds(session.expires_at),
            SESSIONS_MAX,
            _session_prefix(session.id[:1]),
        )

    async def get(self, session_id: str) -> Session | None:
        stored = await self._redis.call("GET", _session_key(session_id))
        session = decode_or_none(_decode_session, stored)
        return session if session and session.expires_at > self._clock() else None

    async def of_person(self, phone: Phone) -> Sequence[Session]:
        prefix = _session_prefix(shard_of(person_key(phone)))
        stored = await self._redis.run(SESSIONS_OF_PERSON, [_person_key(phone)], prefix)
        found = (decode_or_none(_decode_session, one) for one in stored)
        now = self._clock()
        return [session for session in found if session and session.expires_at > now]

    async def extend(self, session: Session, expires_at: float) -> bool:
        extended = replace(session, expires_at=expires_at)
        return bool(
            await self._redis.run(
                EXTEND_SESSION,
                [_session_key(session.id), _person_key(session.phone)],
                encode(extended),
                self._ttl(expires_at),
                session.id,
                to_milliseconds(expires_at),
            )
        )

    async def end(self, phone: Phone, session_id: str | None = None) -> int:
        ids = () if session_id is None else (session_id,)
        prefix = _session_prefix(shard_of(person_key(phone)))
        count: int = await self._redis.run(END_SESSIONS, [_person_key(phone)], prefix, *ids)
        return count

    def _ttl(self, end: float) -> int:
        return ttl_milliseconds(end - self._clock())


def _session_prefix(shard: str) -> str:
    return f"scanlogin:{{{shard}}}:session:"


def _session_key(session_id: str) -> str:
    return _session_prefix(session_id[:1]) + session_id


def _person_key(phone: Phone) -> str:
    name = person_key(phone)
    return f"scanlogin:{{{shard_of(name)}}}:person:{name}"
