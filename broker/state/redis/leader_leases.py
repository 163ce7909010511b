"""Leader leases in Redis: one key for each job, with the lease's TTL.

scanlogin:duty:{<job>}      the holder
"""

from __future__ import annotations

from broker.infrastructure.redis import Redis
from broker.infrastructure.redis.scripts import script
from broker.state.redis.encoding import ttl_milliseconds

ACQUIRE = script("""
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


class RedisLeaderLeases:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def acquire(self, job: str, holder: str, *, seconds: float) -> bool:
        return bool(await self._redis.run(ACQUIRE, [_key(job)], holder, ttl_milliseconds(seconds)))

    async def release(self, job: str, holder: str) -> None:
        await self._redis.run(RELEASE, [_key(job)], holder)


def _key(job: str) -> str:
    return f"scanlogin:duty:{{{job}}}"
