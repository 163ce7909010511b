"""Authorization codes and families of refresh tokens in Redis.

    scanlogin:{s}:code:<hash>          "<sid> <family> <the code as JSON>"; "used <family>" later
    scanlogin:{s}:family:<id>          "<n> <sid> <subject> <the family as JSON>"; "-" once dropped
    scanlogin:{s}:grace:<id>           exists while the previous refresh token may be repeated
    scanlogin:{s}:families:<subject>   sorted set: ids of active families by end time

`s` is the subject's shard, so a script reads a code or a family together with its sign-in
session (`sign_ins.py`). `<subject>` is a hash. No code and no refresh token is stored.
"""

from __future__ import annotations

from collections.abc import Sequence

from broker.infrastructure.clock import Clock
from broker.infrastructure.codec import decoder, encode
from broker.infrastructure.redis import Redis
from broker.infrastructure.redis.scripts import script
from broker.oidc.model import AuthorizationCode, Family, subject_shard
from broker.oidc.ports import (
    DROPPED_TTL,
    ENDED_TTL,
    FAMILIES_MAX,
    TOMBSTONE_TTL,
    FamilyState,
    FoundCode,
    Unusable,
)
from broker.state.redis.encoding import decode_or_none, to_milliseconds, ttl_milliseconds
from broker.state.redis.keys import shard_prefix
from broker.state.redis.replication import Replication
from broker.state.redis.sign_ins import EXTEND, index_key, subject_name

ACTIVE = """
local function active(prefix, sid)
  local stored = redis.call('GET', prefix .. 'signin:' .. sid)
  return stored and stored ~= '-' and 1 or 0
end
"""

STATE = (
    ACTIVE
    + """
local function state(prefix, id, stored)
  local sid = string.match(stored, '^%d+ (%S+)')
  local in_grace = redis.call('GET', prefix .. 'grace:' .. id) and 1 or 0
  return {stored, active(prefix, sid), in_grace}
end
"""
)

FIND_CODE = script(
    ACTIVE
    + """
local stored = redis.call('GET', KEYS[1])
if not stored then
  return false
end
return {stored, active(ARGV[1], string.match(stored, '^%S+'))}
"""
)

USE = """
local function use(key, tombstone_ttl)
  local stored = redis.call('GET', key)
  if not stored or string.sub(stored, 1, 5) == 'used ' then
    return false
  end
  local family = string.match(stored, '^%S+ (%S+) ')
  redis.call('SET', key, 'used ' .. family, 'PX', redis.call('PTTL', key) + tombstone_ttl)
  return true
end
"""
"""Replaces a code by its tombstone, and returns whether the code could be used."""

USE_CODE = script(USE + "return use(KEYS[1], ARGV[1])")

FINISH = """
local function finish(prefix, family, ttl)
  local key = prefix .. 'family:' .. family
  local stored = redis.call('GET', key)
  redis.call('SET', key, '-', 'PX', ttl)
  if not stored or stored == '-' then
    return false
  end
  redis.call('ZREM', prefix .. 'families:' .. string.match(stored, '^%d+ %S+ (%S+)'), family)
  return stored
end
"""

SAVE = script(
    FINISH
    + USE
    + """
local prefix, family, ttl, ended_ttl = ARGV[1], ARGV[2], ARGV[3], ARGV[6]
local stored = redis.call('GET', KEYS[1])
if stored == '-' or not stored and redis.call('GET', KEYS[3]) == '-' then
  return 0
end
if KEYS[4] and not use(KEYS[4], ARGV[9]) then
  return 0
end
if stored then
  return 1
end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', ARGV[5])
local surplus = redis.call('ZCARD', KEYS[2]) + 1 - ARGV[7]
if surplus > 0 then
  for _, other in ipairs(redis.call('ZRANGE', KEYS[2], 0, surplus - 1)) do
    finish(prefix, other, ended_ttl)
  end
end
redis.call('SET', KEYS[1], ARGV[8], 'PX', ttl)
redis.call('ZADD', KEYS[2], ARGV[4], family)
if redis.call('PTTL', KEYS[2]) < tonumber(ttl) then
  redis.call('PEXPIRE', KEYS[2], ttl)
end
return 1
"""
)

GET = script(
    STATE
    + """
local stored = redis.call('GET', KEYS[1])
if not stored or stored == '-' then
  return false
end
return state(ARGV[1], ARGV[2], stored)
"""
)

SWAP = script(
    STATE
    + EXTEND
    + """
local stored = redis.call('GET', KEYS[1])
if not stored or stored == '-' then
  return false
end
local n, sid = string.match(stored, '^(%d+) (%S+)')
if n == ARGV[2] then
  stored = ARGV[3]
  redis.call('SET', KEYS[1], stored, 'PX', ARGV[4])
  redis.call('ZADD', KEYS[2], 'XX', ARGV[5], ARGV[6])
  if redis.call('PTTL', KEYS[2]) < tonumber(ARGV[4]) then
    redis.call('PEXPIRE', KEYS[2], ARGV[4])
  end
  -- A TTL counts from here, also if the command has waited in a server that did not answer.
  redis.call('SET', ARGV[1] .. 'grace:' .. ARGV[6], '', 'PX', ARGV[11])
  extend(ARGV[1], KEYS[3], sid, ARGV[7], ARGV[8], ARGV[9], ARGV[10])
end
return state(ARGV[1], ARGV[6], stored)
"""
)

DROP = script(
    FINISH
    + """
local stored = redis.call('GET', KEYS[1])
local refreshes = stored and string.find(stored, '^[1-9]')
return finish(ARGV[1], ARGV[2], refreshes and ARGV[3] or ARGV[4])
"""
)

OF_SUBJECT = script(
    STATE
    + """
local found = {}
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local stored = redis.call('GET', ARGV[1] .. 'family:' .. id)
  if stored and stored ~= '-' then
    found[#found + 1] = state(ARGV[1], id, stored)
  end
end
return found
"""
)

USED = b"used "
"""Begins the tombstone of a code. A sid is longer, and may begin with any character."""

_decode_code = decoder(AuthorizationCode)
_decode_family = decoder(Family)


class RedisGrants:
    """replication: waits for the replicas after each change that must not be lost."""

    def __init__(self, redis: Redis, replication: Replication, clock: Clock) -> None:
        self._redis = redis
        self._replication = replication
        self._clock = clock

    async def save_code(self, shard: str, code_hash: bytes, code: AuthorizationCode) -> None:
        value = f"{code.grant.sid} {code.grant.family} ".encode() + encode(code)
        await self._redis.call(
            "SET", _code_key(shard, code_hash), value, "PX", self._ttl(code.expires_at), "NX"
        )

    async def find_code(self, shard: str, code_hash: bytes) -> FoundCode:
        key = _code_key(shard, code_hash)
        found = await self._redis.run(FIND_CODE, [key], shard_prefix(shard))
        if not found:
            return FoundCode(None, Unusable.UNKNOWN)
        stored, is_signed_in = found
        if stored.startswith(USED):
            return FoundCode(None, Unusable.USED, stored.removeprefix(USED).decode())
        _, family, text = stored.split(b" ", 2)
        code = decode_or_none(_decode_code, text)
        if code is None or not is_signed_in:
            return FoundCode(None, Unusable.ENDED, family.decode())
        return FoundCode(code)

    async def use_code(self, shard: str, code_hash: bytes) -> None:
        key = _code_key(shard, code_hash)
        if await self._redis.run(USE_CODE, [key], to_milliseconds(TOMBSTONE_TTL)):
            await self._replication.wait_for(key, USED)

    async def save(self, family: Family, code_hash: bytes | None = None) -> bool:
        grant, now = family.grant, self._clock()
        shard = grant.family[:1]
        prefix = shard_prefix(shard)
        keys = [_family_key(grant.family), _index_key(grant.subject), f"{prefix}signin:{grant.sid}"]
        if code_hash is not None:
            keys.append(_code_key(shard, code_hash))
        is_saved = await self._redis.run(
            SAVE,
            keys,
            prefix,
            grant.family,
            ttl_milliseconds(family.expires_at - now),
            to_milliseconds(family.expires_at),
            to_milliseconds(now),
            to_milliseconds(ENDED_TTL),
            FAMILIES_MAX,
            _encode_family(family),
            to_milliseconds(TOMBSTONE_TTL),
        )
        if is_saved:
            await self._replication.wait_for(_family_key(grant.family), "")
        return bool(is_saved)

    async def get(self, family_id: str) -> FamilyState | None:
        prefix = shard_prefix(family_id[:1])
        found = await self._redis.run(GET, [_family_key(family_id)], prefix, family_id)
        return _parse_state(found)

    async def swap(
        self, before: Family, after: Family, *, idle: float, grace: float
    ) -> FamilyState | None:
        family_id, subject = after.grant.family, after.grant.subject
        now = self._clock()
        found = await self._redis.run(
            SWAP,
            [_family_key(family_id), _index_key(subject), index_key(subject)],
            shard_prefix(family_id[:1]),
            before.n,
            _encode_family(after),
            self._ttl(after.expires_at),
            to_milliseconds(after.expires_at),
            family_id,
            to_milliseconds(now),
            to_milliseconds(now + idle),
            str(after.used_at),
            to_milliseconds(idle / 10),
            ttl_milliseconds(grace),
        )
        if found:
            # A caller that lost must not return a number that a failover takes back, either.
            number = found[0].partition(b" ")[0] + b" "
            await self._replication.wait_for(_family_key(family_id), number)
        return _parse_state(found)

    async def drop(self, family_id: str) -> Family | None:
        prefix, key = shard_prefix(family_id[:1]), _family_key(family_id)
        lifetimes = [to_milliseconds(ENDED_TTL), to_milliseconds(DROPPED_TTL)]
        stored = await self._redis.run(DROP, [key], prefix, family_id, *lifetimes)
        await self._replication.wait_for(key, "-")
        return _parse_family(stored)

    async def was_dropped(self, family_id: str) -> bool:
        return bool(await self._redis.call("GET", _family_key(family_id)) == b"-")

    async def of_subject(self, subject: str) -> Sequence[FamilyState]:
        prefix = shard_prefix(subject_shard(subject))
        found = await self._redis.run(OF_SUBJECT, [_index_key(subject)], prefix)
        states = [state for state in map(_parse_state, found) if state is not None]
        return sorted(states, key=lambda state: state.family.began_at)

    def _ttl(self, end: float) -> int:
        return ttl_milliseconds(end - self._clock())


def _code_key(shard: str, code_hash: bytes) -> str:
    return f"{shard_prefix(shard)}code:{code_hash.hex()}"


def _family_key(family_id: str) -> str:
    return f"{shard_prefix(family_id[:1])}family:{family_id}"


def _index_key(subject: str) -> str:
    return f"{shard_prefix(subject_shard(subject))}families:{subject_name(subject)}"


def _encode_family(family: Family) -> bytes:
    head = f"{family.n} {family.grant.sid} {subject_name(family.grant.subject)} "
    return head.encode() + encode(family)


def _parse_family(stored: bytes | None) -> Family | None:
    return None if stored is None else decode_or_none(_decode_family, stored.split(b" ", 3)[3])


def _parse_state(found: tuple[bytes, int, int] | None) -> FamilyState | None:
    if not found:
        return None
    stored, is_signed_in, in_grace = found
    family = _parse_family(stored)
    return None if family is None else FamilyState(family, bool(is_signed_in), bool(in_grace))
