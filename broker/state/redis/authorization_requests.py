"""Authorization requests in Redis.

    scanlogin:{s}:request:<id>    "<cookie hash or -> <completed by or -> <the request as JSON>"

`s` is the first character of the id, which is random.
"""

from __future__ import annotations

from dataclasses import replace

from broker.infrastructure.clock import Clock
from broker.infrastructure.codec import decoder, encode
from broker.infrastructure.redis import Redis
from broker.infrastructure.redis.scripts import script
from broker.oidc.model import AuthorizationRequest
from broker.state.redis.encoding import decode_or_none, ttl_milliseconds

BIND = script("""
local stored = redis.call('GET', KEYS[1])
if not stored then
  return 0
end
local cookie, rest = string.match(stored, '^(%S+) (.*)$')
if cookie == '-' then
  redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. rest, 'PX', ARGV[2])
  return 1
end
return cookie == ARGV[1] and 1 or 0
""")

COMPLETE = script("""
local stored = redis.call('GET', KEYS[1])
if not stored then
  return 0
end
local cookie, by, rest = string.match(stored, '^(%S+) (%S+) (.*)$')
if by == '-' then
  redis.call('SET', KEYS[1], cookie .. ' ' .. ARGV[1] .. ' ' .. rest, 'KEEPTTL')
  return 1
end
return by == ARGV[1] and 1 or 0
""")

_decode = decoder(AuthorizationRequest)


class RedisAuthorizationRequests:
    def __init__(self, redis: Redis, clock: Clock) -> None:
        self._redis = redis
        self._clock = clock

    async def put(self, request: AuthorizationRequest) -> None:
        cookie = request.cookie_hash.hex() if request.cookie_hash else "-"
        value = f"{cookie} {request.completed_by or '-'} ".encode() + encode(request)
        ttl = ttl_milliseconds(request.expires_at - self._clock())
        await self._redis.call("SET", _key(request.id), value, "PX", ttl)

    async def bind(self, request_id: str, cookie_hash: bytes, expires_at: float) -> bool:
        ttl = ttl_milliseconds(expires_at - self._clock())
        return bool(await self._redis.run(BIND, [_key(request_id)], cookie_hash.hex(), ttl))

    async def get(self, request_id: str) -> AuthorizationRequest | None:
        return _parse(await self._redis.call("GET", _key(request_id)))

    async def complete(self, request_id: str, by: str) -> bool:
        return bool(await self._redis.run(COMPLETE, [_key(request_id)], by))


def _parse(stored: bytes | None) -> AuthorizationRequest | None:
    if stored is None:
        return None
    cookie, _, rest = stored.partition(b" ")
    by, _, text = rest.partition(b" ")
    request = decode_or_none(_decode, text)
    if request is None:
        return None
    return replace(
        request,
        cookie_hash=None if cookie == b"-" else bytes.fromhex(cookie.decode()),
        completed_by="" if by == b"-" else by.decode(),
    )


def _key(request_id: str) -> str:
    return f"scanlogin:{{{request_id[:1]}}}:request:{request_id}"
