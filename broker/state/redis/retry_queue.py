"""Deferred calls in Redis.

scanlogin:{retries}:due:<kind>      sorted set: ids by due time in milliseconds
scanlogin:{retries}:calls:<kind>    hash: id to the call as JSON
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from broker.infrastructure.clock import Clock
from broker.infrastructure.codec import decoder, encode
from broker.infrastructure.coordination import RETRY_TIMEOUT, DeferredCall
from broker.infrastructure.redis import Redis
from broker.infrastructure.redis.scripts import script
from broker.state.redis.encoding import decode_or_none, to_milliseconds

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
local taken = {}
for k = 1, #KEYS, 2 do
  local ids = redis.call('ZRANGEBYSCORE', KEYS[k], '-inf', ARGV[1], 'LIMIT', 0, ARGV[3])
  for _, id in ipairs(ids) do
    local call = redis.call('HGET', KEYS[k + 1], id)
    if call then
      redis.call('ZADD', KEYS[k], ARGV[2], id)
      table.insert(taken, call)
    else
      redis.call('ZREM', KEYS[k], id)
    end
  end
end
return taken
""")

DONE = script("""
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
""")

_decode = decoder(DeferredCall)


class RedisRetryQueue:
    def __init__(self, redis: Redis, clock: Clock) -> None:
        self._redis = redis
        self._clock = clock

    async def put(self, call: DeferredCall, due_at: float) -> None:
        due, kept = to_milliseconds(due_at), to_milliseconds(KEPT)
        await self._redis.run(PUT, _keys(call.kind), call.id, due, encode(call), kept)

    async def take_due(self, kinds: Collection[str], limit: int) -> Sequence[DeferredCall]:
        if not kinds:
            return ()
        now = self._clock()
        again = to_milliseconds(now + RETRY_TIMEOUT)
        keys = [key for kind in kinds for key in _keys(kind)]
        found = await self._redis.run(TAKE, keys, to_milliseconds(now), again, limit)
        calls = [decode_or_none(_decode, stored) for stored in found]
        return [call for call in calls if call is not None]

    async def done(self, call: DeferredCall) -> None:
        await self._redis.run(DONE, _keys(call.kind), call.id)


def _keys(kind: str) -> list[str]:
    return [f"scanlogin:{{retries}}:due:{kind}", f"scanlogin:{{retries}}:calls:{kind}"]
