"""Deferred calls in Redis.

scanlogin:{deferred}:due      sorted set: ids by due time in milliseconds
scanlogin:{deferred}:calls    hash: id to the call as JSON
"""

from __future__ import annotations

from collections.abc import Sequence

from broker.infrastructure.clock import Clock
from broker.infrastructure.codec import decoder, encode
from broker.infrastructure.redis import Redis
from broker.infrastructure.redis.scripts import script
from broker.oidc.ports import RETRY_TIMEOUT, DeferredCall
from broker.state.redis.encoding import decode_or_none, to_milliseconds

DUE, CALLS = "scanlogin:{deferred}:due", "scanlogin:{deferred}:calls"

KEPT = 86_400.0
"""Seconds without a new call after which the keys expire. The last attempt of a call is due
much earlier."""

PUT = script("""
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
""")

TAKE = script("""
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[3])
if #ids == 0 then
  return {}
end
for _, id in ipairs(ids) do
  redis.call('ZADD', KEYS[1], ARGV[2], id)
end
return redis.call('HMGET', KEYS[2], unpack(ids))
""")

DONE = script("""
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
""")

_decode = decoder(DeferredCall)


class RedisDeferred:
    def __init__(self, redis: Redis, clock: Clock) -> None:
        self._redis = redis
        self._clock = clock

    async def put(self, call: DeferredCall, due_at: float) -> None:
        due, kept = to_milliseconds(due_at), to_milliseconds(KEPT)
        await self._redis.run(PUT, [DUE, CALLS], call.id, due, encode(call), kept)

    async def take_due(self, limit: int) -> Sequence[DeferredCall]:
        now = self._clock()
        again = to_milliseconds(now + RETRY_TIMEOUT)
        found = await self._redis.run(TAKE, [DUE, CALLS], to_milliseconds(now), again, limit)
        calls = [decode_or_none(_decode, stored) for stored in found]
        return [call for call in calls if call is not None]

    async def done(self, call_id: str) -> None:
        await self._redis.run(DONE, [DUE, CALLS], call_id)
