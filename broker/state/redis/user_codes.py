"""User codes in Redis: one key for each.

scanlogin:{s}:user-code:<code>      a login id

`s` is the first letter of the code.
"""

from __future__ import annotations

from broker.infrastructure.clock import Clock
from broker.infrastructure.redis import Redis
from broker.login.model import Login
from broker.login.ports import LOGIN_RETENTION
from broker.state.redis.encoding import decode_or_none, ttl_milliseconds
from broker.state.redis.keys import shard_prefix


class RedisUserCodes:
    def __init__(self, redis: Redis, clock: Clock) -> None:
        self._redis = redis
        self._clock = clock

    async def claim(self, code: str, login: Login) -> bool:
        if await self._redis.call("SET", _key(code), login.id, "NX", "PX", self._ttl(login)):
            return True
        return await self.find(code) == login.id

    async def extend(self, code: str, login: Login) -> None:
        if await self.find(code) == login.id:
            await self._redis.call("PEXPIRE", _key(code), self._ttl(login))

    async def find(self, code: str) -> str | None:
        return decode_or_none(bytes.decode, await self._redis.call("GET", _key(code)))

    def _ttl(self, login: Login) -> int:
        return ttl_milliseconds(login.expires_at + LOGIN_RETENTION - self._clock())


def _key(code: str) -> str:
    return f"{shard_prefix(code[:1])}user-code:{code}"
