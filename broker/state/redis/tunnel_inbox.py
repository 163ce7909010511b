"""Numbers of the callbacks of tunnels in Redis. `tunnel_keys.py` describes the keys."""

from __future__ import annotations

from broker.infrastructure.clock import Clock
from broker.infrastructure.redis import Redis
from broker.infrastructure.redis.scripts import script
from broker.state.redis.encoding import to_milliseconds
from broker.state.redis.tunnel_keys import KEY, RECORD, REMEMBER, parse_tunnel, tunnel_key
from broker.tunnels.ports import REPLIES_MAX, REPLY_TTL, NumberedMessage

NUMBER = script(
    KEY
    + REMEMBER
    + f"""
local id, attachment, message_id, now, ttl = unpack(ARGV)
local stored = redis.call('HMGET', KEYS[1], 'attachment', {", ".join(map(repr, RECORD))})
if stored[1] ~= attachment or stored[4] then
  return false
end
local numbers, order = key('tunnel-numbers', id), key('tunnel-numbers-order', id)
local seq, reply
if message_id ~= '' then
  seq, reply = known(numbers, message_id, now)
end
if not seq then
  seq = redis.call('HINCRBY', KEYS[1], 'seq', 1)
  if message_id ~= '' then
    remember(numbers, order, message_id, seq, now, ttl, {REPLIES_MAX})
  end
end
return {{tonumber(seq), reply or '', stored[2], stored[3]}}
"""
)

SETTLE = script(
    REMEMBER
    + """
local number = known(KEYS[1], ARGV[1], ARGV[3])
if number then
  local head = string.match(redis.call('HGET', KEYS[1], ARGV[1]), '^%d+ %d+')
  redis.call('HSET', KEYS[1], ARGV[1], head .. ' ' .. ARGV[2])
end
"""
)


class RedisTunnelInbox:
    def __init__(self, redis: Redis, clock: Clock) -> None:
        self._redis = redis
        self._clock = clock

    async def number(
        self, tunnel_id: str, attachment: int, message_id: str = ""
    ) -> NumberedMessage | None:
        found = await self._redis.run(
            NUMBER,
            [tunnel_key("tunnel", tunnel_id)],
            tunnel_id,
            attachment,
            message_id,
            to_milliseconds(self._clock()),
            to_milliseconds(REPLY_TTL),
        )
        if not found:
            return None
        seq, reply, *record = found
        tunnel = parse_tunnel([*record, None])
        if tunnel is None:
            return None
        return NumberedMessage(seq, tunnel, reply[1:] if reply else None)

    async def settle(self, tunnel_id: str, message_id: str, reply: bytes) -> None:
        now = to_milliseconds(self._clock())
        await self._redis.run(
            SETTLE, [tunnel_key("tunnel-numbers", tunnel_id)], message_id, reply, now
        )
