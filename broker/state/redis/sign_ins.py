"""Sign-in sessions in Redis, with an index of each subject's sessions.

    scanlogin:{s}:signin:<sid>         "<latest end> <cookie hash or -> <used at> <JSON>"
    scanlogin:{s}:signin-apps:<sid>    hash: app to "<first use> <incarnation>"
    scanlogin:{s}:signin-cookie:<hash> the sid
    scanlogin:{s}:signins:<subject>    sorted set: sids by end time

`s` is the subject's shard, so each act is one script, also on a Cluster. Times in keys are
milliseconds. The value `-` marks a session that was ended. The index holds every active session
of its subject, so it tells whose session a sid is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from broker.infrastructure.clock import Clock
from broker.infrastructure.codec import decoder, encode
from broker.infrastructure.redis import Redis
from broker.infrastructure.redis.scripts import CommandPart, script
from broker.oidc.model import SignIn, subject_shard
from broker.oidc.ports import ENDED_TTL, SIGN_INS_MAX
from broker.state.redis.encoding import decode_or_none, to_milliseconds, ttl_milliseconds
from broker.state.redis.keys import shard_prefix

END = """
local function finish(prefix, index, sid, ttl)
  local stored = redis.call('GET', prefix .. 'signin:' .. sid)
  if stored and stored ~= '-' and not redis.call('ZSCORE', index, sid) then
    return false  -- of another subject
  end
  redis.call('SET', prefix .. 'signin:' .. sid, '-', 'PX', ttl)
  redis.call('ZREM', index, sid)
  if not stored or stored == '-' then
    return false
  end
  local apps = redis.call('HGETALL', prefix .. 'signin-apps:' .. sid)
  redis.call('DEL', prefix .. 'signin-apps:' .. sid)
  local cookie = string.match(stored, '^%d+ (%S+)')
  redis.call('DEL', prefix .. 'signin-cookie:' .. cookie)
  return {stored, apps}
end
"""

SAVE = script(
    END
    + """
local prefix, sid, now, until_, ttl = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local key, index = prefix .. 'signin:' .. sid, KEYS[1]
local former = redis.call('GET', key)
if former == '-' then
  return {}
end
if former then
  redis.call('DEL', prefix .. 'signin-cookie:' .. string.match(former, '^%d+ (%S+)'))
end
redis.call('ZREMRANGEBYSCORE', index, '-inf', now)
redis.call('ZREM', index, sid)
local surplus = redis.call('ZCARD', index) + 1 - ARGV[6]
local ended = {}
if surplus > 0 then
  for _, other in ipairs(redis.call('ZRANGE', index, 0, surplus - 1)) do
    local one = finish(prefix, index, other, ARGV[7])
    if one then
      ended[#ended + 1] = one
    end
  end
end
redis.call('SET', key, ARGV[8], 'PX', ttl)
redis.call('ZADD', index, until_, sid)
if redis.call('PTTL', index) < tonumber(ttl) then
  redis.call('PEXPIRE', index, ttl)
end
if ARGV[9] ~= '-' then
  redis.call('SET', prefix .. 'signin-cookie:' .. ARGV[9], sid, 'PX', ttl)
end
for i = 10, #ARGV, 2 do
  redis.call('HSETNX', prefix .. 'signin-apps:' .. sid, ARGV[i], ARGV[i + 1])
end
redis.call('PEXPIRE', prefix .. 'signin-apps:' .. sid, ttl)
return ended
"""
)

EXTEND = """
local function extend(prefix, index, sid, now, until_, used_at, least)
  local key = prefix .. 'signin:' .. sid
  local stored = redis.call('GET', key)
  if not stored or stored == '-' then
    return false
  end
  local latest, cookie, rest = string.match(stored, '^(%d+) (%S+) %S+ (.*)$')
  local left = redis.call('PTTL', key)
  local ttl = math.min(tonumber(until_), tonumber(latest)) - now
  if ttl - left < tonumber(least) then
    return true
  end
  ttl = math.max(ttl, left)
  redis.call('SET', key, table.concat({latest, cookie, used_at, rest}, ' '), 'PX', ttl)
  redis.call('PEXPIRE', prefix .. 'signin-apps:' .. sid, ttl)
  redis.call('PEXPIRE', prefix .. 'signin-cookie:' .. cookie, ttl)
  redis.call('ZADD', index, 'XX', now + ttl, sid)
  if redis.call('PTTL', index) < ttl then
    redis.call('PEXPIRE', index, ttl)
  end
  return true
end
"""
"""Sets the time of use and a later end, if the session gains `least` milliseconds by that."""

TOUCH = script(
    EXTEND
    + """
local prefix, sid = ARGV[1], ARGV[2]
if not extend(prefix, KEYS[1], sid, ARGV[3], ARGV[4], ARGV[5], '-inf') then
  return 0
end
for i = 6, #ARGV, 2 do
  redis.call('HSETNX', prefix .. 'signin-apps:' .. sid, ARGV[i], ARGV[i + 1])
end
local ttl = redis.call('PTTL', prefix .. 'signin:' .. sid)
redis.call('PEXPIRE', prefix .. 'signin-apps:' .. sid, ttl)
return 1
"""
)

BY_COOKIE = script("""
local sid = redis.call('GET', KEYS[1])
if not sid then
  return false
end
local stored = redis.call('GET', ARGV[1] .. 'signin:' .. sid)
return stored and {stored, redis.call('HGETALL', ARGV[1] .. 'signin-apps:' .. sid)}
""")

OF_SUBJECT = script("""
local found = {}
for _, sid in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local stored = redis.call('GET', ARGV[1] .. 'signin:' .. sid)
  if stored then
    found[#found + 1] = {stored, redis.call('HGETALL', ARGV[1] .. 'signin-apps:' .. sid)}
  end
end
return found
""")

FINISH = script(END + "return finish(ARGV[1], KEYS[1], ARGV[2], ARGV[3])")

_decode = decoder(SignIn)


class RedisSignIns:
    def __init__(self, redis: Redis, clock: Clock) -> None:
        self._redis = redis
        self._clock = clock

    async def save(self, sign_in: SignIn, expires_at: float) -> Sequence[SignIn]:
        cookie = sign_in.cookie_hash.hex() if sign_in.cookie_hash else "-"
        head = f"{to_milliseconds(sign_in.latest_end)} {cookie} {sign_in.used_at} ".encode()
        now = self._clock()
        ended = await self._redis.run(
            SAVE,
            [index_key(sign_in.subject)],
            shard_prefix(subject_shard(sign_in.subject)),
            sign_in.sid,
            to_milliseconds(now),
            to_milliseconds(expires_at),
            ttl_milliseconds(expires_at - now),
            SIGN_INS_MAX,
            to_milliseconds(ENDED_TTL),
            head + _encode(sign_in),
            cookie,
            *_apps(sign_in),
        )
        return _parse_all(ended)

    async def by_cookie(self, cookie_shard: str, cookie_hash: bytes) -> SignIn | None:
        prefix = shard_prefix(cookie_shard)
        key = f"{prefix}signin-cookie:{cookie_hash.hex()}"
        return _parse(await self._redis.run(BY_COOKIE, [key], prefix))

    async def of_subject(self, subject: str) -> Sequence[SignIn]:
        prefix = shard_prefix(subject_shard(subject))
        found = await self._redis.run(OF_SUBJECT, [index_key(subject)], prefix)
        return sorted(_parse_all(found), key=lambda one: one.began_at)

    async def touch(self, sign_in: SignIn, expires_at: float) -> bool:
        return bool(
            await self._redis.run(
                TOUCH,
                [index_key(sign_in.subject)],
                shard_prefix(subject_shard(sign_in.subject)),
                sign_in.sid,
                to_milliseconds(self._clock()),
                to_milliseconds(expires_at),
                str(sign_in.used_at),
                *_apps(sign_in),
            )
        )

    async def end(self, subject: str, sid: str) -> SignIn | None:
        prefix = shard_prefix(subject_shard(subject))
        ttl = to_milliseconds(ENDED_TTL)
        return _parse(await self._redis.run(FINISH, [index_key(subject)], prefix, sid, ttl))


def index_key(subject: str) -> str:
    return f"{shard_prefix(subject_shard(subject))}signins:{subject_name(subject)}"


def subject_name(subject: str) -> str:
    """Return the subject's name in keys, which holds no space and does not reveal the subject."""
    return hashlib.sha256(subject.encode()).hexdigest()[:32]


def _encode(sign_in: SignIn) -> bytes:
    """Encode without the fields that have a separate place."""
    return encode(replace(sign_in, cookie_hash=None, apps={}, incarnations={}))


def _apps(sign_in: SignIn) -> list[CommandPart]:
    parts: list[CommandPart] = []
    for app, first_at in sign_in.apps.items():
        parts += [app, f"{first_at} {sign_in.incarnations.get(app, '')}"]
    return parts


def _parse_all(found: Sequence[tuple[bytes, list[bytes]]]) -> list[SignIn]:
    return [sign_in for sign_in in map(_parse, found) if sign_in is not None]


def _parse(found: tuple[bytes, list[bytes]] | None) -> SignIn | None:
    if not found or found[0] == b"-":
        return None
    stored, flat = found
    _, cookie, used_at, text = stored.split(b" ", 3)
    sign_in = decode_or_none(_decode, text)
    if sign_in is None:
        return None
    pairs = [
        (app.decode(), value.decode().partition(" "))
        for app, value in zip(flat[::2], flat[1::2], strict=True)
    ]
    return replace(
        sign_in,
        cookie_hash=None if cookie == b"-" else bytes.fromhex(cookie.decode()),
        used_at=float(used_at),
        apps={app: float(value[0]) for app, value in pairs},
        incarnations={app: value[2] for app, value in pairs},
    )
