"""Pools of codes in Redis: six keys for an app's key, in one slot of a Cluster.

    scanlogin:pool:{<app>}:codes         hash: number → "<drawing> <the code as JSON>", and
                                         "<drawing>" alone once that has been withdrawn
    scanlogin:pool:{<app>}:free          sorted set: numbers, all with score 0
    scanlogin:pool:{<app>}:out           sorted set: number by when it is free again
    scanlogin:pool:{<app>}:leased        sorted set: number by when its lease ends
    scanlogin:pool:{<app>}:generations   hash: number → the generation of its last lease
    scanlogin:pool:{<app>}:uses          hash: number → how often its drawing was leased

A number is in `free` or in `out`, and from its lease to its give-back in `leased` too.
What time has ended is seen by its score; leases bring it from `out` to `free`, and in
`leased` it stays until the next lease of the number.  Times are
milliseconds.  Numbers are written with ten digits: equal scores sort by text.

A generation is the time of the lease, or one more than the last where that is later: a
Redis that has forgotten everything gives no number a generation that it gave it before.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import chain, islice

from broker.infrastructure.clock import Clock
from broker.infrastructure.codec import decoder, encode
from broker.infrastructure.redis import Redis
from broker.infrastructure.redis.scripts import CommandPart, Script, script
from broker.pool.model import LeasedCode, OfferedCode, PoolLevel
from broker.pool.ports import RESTORE_BATCH
from broker.state.redis.encoding import decode_or_none, to_milliseconds

CODES_PER_CALL = 200
"""Codes that go in one trip: Redis does nothing else for as long as that takes."""

KEYS = ("codes", "free", "out", "leased", "generations", "uses")


def pool_script(text: str) -> Script:
    return script(f"local {', '.join(KEYS)} = unpack(KEYS)\n{text}")


LEASE = pool_script(f"""
local now, ends, back = unpack(ARGV)
local rested = redis.call('ZRANGEBYSCORE', out, '-inf', now, 'LIMIT', 0, {RESTORE_BATCH})
if #rested > 0 then
  local entries = {{}}
  for i, number in ipairs(rested) do
    entries[2 * i - 1], entries[2 * i] = 0, number
  end
  redis.call('ZREMRANGEBYRANK', out, 0, #rested - 1)
  redis.call('ZADD', free, unpack(entries))
end
local number = redis.call('ZPOPMIN', free)[1]
if not number then
  return false
end
local last = tonumber(redis.call('HGET', generations, number) or 0)
local generation = string.format('%.0f', math.max(last + 1, tonumber(now)))
redis.call('HSET', generations, number, generation)
redis.call('ZADD', leased, ends, number)
redis.call('ZADD', out, back, number)
return {{redis.call('HGET', codes, number), generation, redis.call('HINCRBY', uses, number, 1)}}
""")

RETURN = pool_script("""
local number, generation, now, back = unpack(ARGV)
local ends = tonumber(redis.call('ZSCORE', leased, number) or 0)
if ends <= tonumber(now) or redis.call('HGET', generations, number) ~= generation then
  return
end
redis.call('ZREM', leased, number)
redis.call('ZADD', out, back, number)
""")

LATEST = """
local function latest(number)
  local stored = redis.call('HGET', codes, number) or ''
  return tonumber(string.match(stored, '^%d+') or -1), stored
end
"""
"""Which drawing of a number was offered or withdrawn last, -1 where none can be told."""

OFFER = pool_script(f"""{LATEST}
local back = ARGV[1]
for i = 2, #ARGV, 3 do
  local number, drawing, code = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local known, stored = latest(number)
  if tonumber(drawing) > known then
    redis.call('HDEL', uses, number)
  end
  local withdrawn = stored == drawing
  if tonumber(drawing) >= known and not withdrawn then
    redis.call('HSET', codes, number, code)
    if back ~= '' and not redis.call('ZSCORE', free, number) then
      redis.call('ZADD', out, 'NX', back, number)
    elseif not redis.call('ZSCORE', out, number) then
      redis.call('ZADD', free, 0, number)
    end
  end
end
""")
"""Without a time for them to be back, they are free."""

WITHDRAW = pool_script(f"""{LATEST}
for i = 1, #ARGV, 2 do
  local number, drawing = ARGV[i], ARGV[i + 1]
  local known = latest(number)
  if tonumber(drawing) >= known then
    redis.call('HSET', codes, number, drawing)
    redis.call('HDEL', uses, number)
    for _, place in ipairs({{free, out, leased}}) do
      redis.call('ZREM', place, number)
    end
  end
end
""")

LEVEL = pool_script("""
local later = '(' .. ARGV[1]
local resting_or_leased = redis.call('ZCOUNT', out, later, '+inf')
local on_screens = redis.call('ZCOUNT', leased, later, '+inf')
local all = redis.call('ZCARD', free) + redis.call('ZCARD', out)
return {all - resting_or_leased, on_screens, resting_or_leased - on_screens}
""")

FORGET = pool_script("redis.call('DEL', unpack(KEYS))")

_code_fields = decoder(OfferedCode)


class RedisCodeLeases:
    def __init__(self, redis: Redis, clock: Clock) -> None:
        self._redis = redis
        self._clock = clock

    async def lease(self, app: str, *, until: float, cooldown: float) -> LeasedCode | None:
        times = (self._clock(), until, until + cooldown)
        leased = await self._redis.run(LEASE, _keys(app), *map(to_milliseconds, times))
        if leased is None:
            return None
        stored, generation, uses = leased
        code = decode_or_none(_code, stored)
        return None if code is None else LeasedCode(code, int(generation), uses)

    async def return_code(self, app: str, number: int, generation: int, *, cooldown: float) -> None:
        now = self._clock()
        parts = (_digits(number), generation, to_milliseconds(now), to_milliseconds(now + cooldown))
        await self._redis.run(RETURN, _keys(app), *parts)

    async def offer(
        self, app: str, codes: Collection[OfferedCode], *, cooldown: float = 0.0
    ) -> None:
        back = to_milliseconds(self._clock() + cooldown) if cooldown else ""
        each = [(_digits(code.number), code.drawing, _packed(code)) for code in codes]
        await self._run_in_parts(OFFER, app, each, back)

    async def withdraw(self, app: str, drawings: Mapping[int, int]) -> None:
        each = [(_digits(number), drawing) for number, drawing in drawings.items()]
        await self._run_in_parts(WITHDRAW, app, each)

    async def level(self, app: str) -> PoolLevel:
        return PoolLevel(*await self._redis.run(LEVEL, _keys(app), to_milliseconds(self._clock())))

    async def forget(self, app: str) -> None:
        await self._redis.run(FORGET, _keys(app))

    async def _run_in_parts(
        self, what: Script, app: str, each: Collection[tuple[CommandPart, ...]], *first: CommandPart
    ) -> None:
        left = iter(each)
        while part := list(islice(left, CODES_PER_CALL)):
            await self._redis.run(what, _keys(app), *first, *chain.from_iterable(part))


def _keys(app: str) -> list[CommandPart]:
    return [f"scanlogin:pool:{{{app}}}:{key}" for key in KEYS]


def _digits(number: int) -> str:
    return f"{number:010}"


def _packed(code: OfferedCode) -> bytes:
    return b"%d " % code.drawing + encode(code)


def _code(stored: bytes) -> OfferedCode:
    return _code_fields(stored[stored.index(b" ") :])
