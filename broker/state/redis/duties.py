"""Duties in Redis: one key each, which ends with the holding.

scanlogin:duty:{<duty>}      the holder
"""

from __future__ import annotations

from broker.redis_link import Redis, script
from broker.state.redis.times import life_ms

HOLD = script("""
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
""")

RELEASE = script("""
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
""")


class RedisDuties:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def hold(self, duty: str, holder: str, *, seconds: float) -> bool:
        return bool(await self._redis.run(HOLD, [_key(duty)], holder, life_ms(seconds)))

    async def release(self, duty: str, holder: str) -> None:
        await self._redis.run(RELEASE, [_key(duty)], holder)


def _key(duty: str) -> str:
    return f"scanlogin:duty:{{{duty}}}"
