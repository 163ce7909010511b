"""Images of codes in Redis: one key for each, in the slot of the login, until the code expires.

scanlogin:{s}:image:<login id>      a URL, usually `data:`
"""

from __future__ import annotations

from broker.infrastructure.clock import Clock
from broker.infrastructure.redis import Redis
from broker.login.model import Login
from broker.state.redis.encoding import decode_or_none, ttl_milliseconds


class RedisImages:
    def __init__(self, redis: Redis, clock: Clock) -> None:
        self._redis = redis
        self._clock = clock

    async def put(self, login: Login, url: str) -> None:
        ttl = ttl_milliseconds(login.expires_at - self._clock())
        await self._redis.call("SET", _key(login), url, "PX", ttl)

    async def get(self, login: Login) -> str | None:
        return decode_or_none(bytes.decode, await self._redis.call("GET", _key(login)))


def _key(login: Login) -> str:
    return f"scanlogin:{{{login.id[:1]}}}:image:{login.id}"
