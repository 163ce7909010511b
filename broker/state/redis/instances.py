"""Instance profiles in Redis: one hash.

scanlogin:instances      instance → "<end in ms> <profile as JSON>"
"""

from __future__ import annotations

from collections.abc import Mapping

from broker.infrastructure.clock import Clock
from broker.infrastructure.codec import decoder, encode
from broker.infrastructure.redis import Redis
from broker.infrastructure.redis.scripts import script
from broker.monitoring.ports import INSTANCE_TTL, Profile
from broker.state.redis.encoding import decode_or_none, to_milliseconds

KEY = "scanlogin:instances"

PUBLISH = script("""
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
local all = redis.call('HGETALL', KEYS[1])
local live = {}
for i = 1, #all, 2 do
  if tonumber(string.match(all[i + 1], '^%d+') or 0) < tonumber(ARGV[3]) then
    redis.call('HDEL', KEYS[1], all[i])
  else
    table.insert(live, all[i])
    table.insert(live, all[i + 1])
  end
end
return live
""")

LEAVE = script("return redis.call('HDEL', KEYS[1], ARGV[1])")

_decode_fields = decoder(Profile)


class RedisInstances:
    def __init__(self, redis: Redis, clock: Clock) -> None:
        self._redis = redis
        self._clock = clock

    async def publish(self, instance: str, profile: Profile) -> Mapping[str, Profile]:
        now = self._clock()
        stored = b"%d " % to_milliseconds(now + INSTANCE_TTL) + encode(profile)
        live = await self._redis.run(
            PUBLISH, [KEY], instance, stored, to_milliseconds(now), to_milliseconds(INSTANCE_TTL)
        )
        found = {
            name.decode(): decode_or_none(_decode, stored_profile)
            for name, stored_profile in zip(live[::2], live[1::2], strict=True)
        }
        return {
            name: other for name, other in found.items() if other is not None and name != instance
        }

    async def leave(self, instance: str) -> None:
        await self._redis.run(LEAVE, [KEY], instance)


def _decode(stored: bytes) -> Profile:
    return _decode_fields(stored[stored.index(b" ") :])
