"""Images of codes in Redis: one key each, beside its login, which ends with the code.

scanlogin:{s}:image:<login id>      a URL, mostly `data:`
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
        life = ttl_milliseconds(login.expires_at - self._clock())
        await self._redis.call("SET", _key(login), url, "PX", life)

    async def get(self, login: Login) -> str | None:
        return decode_or_none(_url, await self._redis.call("GET", _key(login)))


def _key(login: Login) -> str:
    return f"scanlogin:{{{login.id[:1]}}}:image:{login.id}"


def _url(stored: bytes) -> str:
    return stored.decode()
