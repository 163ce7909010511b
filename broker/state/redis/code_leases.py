"""Pools of codes in Redis: six keys for each app key, in one slot of a Cluster.

    scanlogin:pool:{<app>}:codes         hash: number → "<drawing> <the code as JSON>", or
                                         "<drawing>" if the number was withdrawn
    scanlogin:pool:{<app>}:free          sorted set: numbers, all with score 0
    scanlogin:pool:{<app>}:out           sorted set: number by the time when it is free again
    scanlogin:pool:{<app>}:leased        sorted set: number by the time when its lease ends
    scanlogin:pool:{<app>}:generations   hash: number → generation of its last lease
    scanlogin:pool:{<app>}:uses          hash: number → leases of its current drawing

A number is in `free` or in `out`. From its lease to its return it is in `leased` as well.
An entry whose time has passed counts as ended. A lease moves ended entries from `out` to
`free`; in `leased` they remain until the next lease of the number. Times are in
milliseconds. Numbers have ten digits, because equal scores are sorted as text.

A generation is the time of the lease, or the last generation plus one if that is greater.
So a Redis that has lost its data never repeats a generation of a number.
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
"""Codes in one round trip. Redis runs nothing else during a script."""

KEYS = ("codes", "free", "out", "leased", "generations", "uses")


def pool_script(text: str) -> Script:
    return script(f"local {', '.join(KEYS)} = unpack(KEYS)\n{text}")


LEASE = pool_script(f"""
local now, lease_end, free_at = unpack(ARGV)
local ended = redis.call('ZRANGEBYSCORE', out, '-inf', now, 'LIMIT', 0, {RESTORE_BATCH})
if #ended > 0 then
  local entries = {{}}
  for i, number in ipairs(ended) do
    entries[2 * i - 1], entries[2 * i] = 0, number
  end
  redis.call('ZREMRANGEBYRANK', out, 0, #ended - 1)
  redis.call('ZADD', free, unpack(entries))
end
local number = redis.call('ZPOPMIN', free)[1]
if not number then
  return false
end
local last = tonumber(redis.call('HGET', generations, number) or 0)
local generation = string.format('%.0f', math.max(last + 1, tonumber(now)))
redis.call('HSET', generations, number, generation)
redis.call('ZADD', leased, lease_end, number)
redis.call('ZADD', out, free_at, number)
return {{redis.call('HGET', codes, number), generation, redis.call('HINCRBY', uses, number, 1)}}
""")

RETURN = pool_script("""
local number, generation, now, free_at = unpack(ARGV)
local lease_end = tonumber(redis.call('ZSCORE', leased, number) or 0)
if lease_end <= tonumber(now) or redis.call('HGET', generations, number) ~= generation then
  return
end
redis.call('ZREM', leased, number)
redis.call('ZADD', out, free_at, number)
""")

LATEST_DRAWING = """
local function latest_drawing(number)
  local stored = redis.call('HGET', codes, number) or ''
  return tonumber(string.match(stored, '^%d+') or -1), stored
end
"""
"""The last offered or withdrawn drawing of a number, -1 if there is none."""

OFFER = pool_script(f"""{LATEST_DRAWING}
local free_at = ARGV[1]
for i = 2, #ARGV, 3 do
  local number, drawing, code = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local known, stored = latest_drawing(number)
  if tonumber(drawing) > known then
    redis.call('HDEL', uses, number)
  end
  local withdrawn = stored == drawing
  if tonumber(drawing) >= known and not withdrawn then
    redis.call('HSET', codes, number, code)
    if free_at ~= '' and not redis.call('ZSCORE', free, number) then
      redis.call('ZADD', out, 'NX', free_at, number)
    elseif not redis.call('ZSCORE', out, number) then
      redis.call('ZADD', free, 0, number)
    end
  end
end
""")
"""With an empty `free_at`, new numbers are free at once."""

WITHDRAW = pool_script(f"""{LATEST_DRAWING}
for i = 1, #ARGV, 2 do
  local number, drawing = ARGV[i], ARGV[i + 1]
  local known = latest_drawing(number)
  if tonumber(drawing) >= known then
    redis.call('HSET', codes, number, drawing)
    redis.call('HDEL', uses, number)
    for _, key in ipairs({{free, out, leased}}) do
      redis.call('ZREM', key, number)
    end
  end
end
""")

LEVEL = pool_script("""
local later = '(' .. ARGV[1]
local unavailable = redis.call('ZCOUNT', out, later, '+inf')
local on_screens = redis.call('ZCOUNT', leased, later, '+inf')
local all = redis.call('ZCARD', free) + redis.call('ZCARD', out)
return {all - unavailable, on_screens, unavailable - on_screens}
""")

FORGET = pool_script("redis.call('DEL', unpack(KEYS))")

_decode_fields = decoder(OfferedCode)


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
        code = decode_or_none(_decode, stored)
        return None if code is None else LeasedCode(code, int(generation), uses)

    async def return_code(self, app: str, number: int, generation: int, *, cooldown: float) -> None:
        now = self._clock()
        times = map(to_milliseconds, (now, now + cooldown))
        await self._redis.run(RETURN, _keys(app), _digits(number), generation, *times)

    async def offer(
        self, app: str, codes: Collection[OfferedCode], *, cooldown: float = 0.0
    ) -> None:
        free_at = to_milliseconds(self._clock() + cooldown) if cooldown else ""
        rows = [(_digits(code.number), code.drawing, _encode(code)) for code in codes]
        await self._run_in_batches(OFFER, app, rows, free_at)

    async def withdraw(self, app: str, drawings: Mapping[int, int]) -> None:
        rows = [(_digits(number), drawing) for number, drawing in drawings.items()]
        await self._run_in_batches(WITHDRAW, app, rows)

    async def level(self, app: str) -> PoolLevel:
        return PoolLevel(*await self._redis.run(LEVEL, _keys(app), to_milliseconds(self._clock())))

    async def forget(self, app: str) -> None:
        await self._redis.run(FORGET, _keys(app))

    async def _run_in_batches(
        self,
        batch_script: Script,
        app: str,
        rows: Collection[tuple[CommandPart, ...]],
        *first: CommandPart,
    ) -> None:
        remaining = iter(rows)
        while batch := list(islice(remaining, CODES_PER_CALL)):
            await self._redis.run(batch_script, _keys(app), *first, *chain.from_iterable(batch))


def _keys(app: str) -> list[CommandPart]:
    return [f"scanlogin:pool:{{{app}}}:{key}" for key in KEYS]


def _digits(number: int) -> str:
    return f"{number:010}"


def _encode(code: OfferedCode) -> bytes:
    return b"%d " % code.drawing + encode(code)


def _decode(stored: bytes) -> OfferedCode:
    return _decode_fields(stored[stored.index(b" ") :])
