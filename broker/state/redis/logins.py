"""Logins in Redis: one key for each login, and one for its scene.

    scanlogin:{s}:login:<id>      "<version> <the login as JSON>"
    scanlogin:{s}:scene:<scene>   the login's id

`s` is the login's shard: the first character of its id, computed from its scene
(`infrastructure/sharding.py`). Both keys are on the same node of a Cluster, so that one
round trip finds a login by its scene.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache

from msgspec.structs import replace

from broker.errors import Unavailable
from broker.infrastructure.clock import Clock
from broker.infrastructure.codec import decoder, encode
from broker.infrastructure.coordination import Notice
from broker.infrastructure.redis import Redis
from broker.infrastructure.redis.channels import channel_name, encode_notice
from broker.infrastructure.redis.health import WAIT_MS
from broker.infrastructure.redis.scripts import CommandPart, script
from broker.infrastructure.sharding import shard_of
from broker.login.model import REDEEM_LIFETIME, REDELIVERY_LIFETIME, Login, State
from broker.login.ports import LOGIN_RETENTION, ChangedLogins, SwapResult
from broker.state.redis.encoding import decode_or_none, ttl_milliseconds
from broker.state.redis.login_changes import ADD_CHANGE, RedisLoginChanges, changes_key

SWAP_RESULTS = tuple(SwapResult)

STATE_LIFETIMES: Mapping[State, float] = {
    State.CONFIRMED: REDEEM_LIFETIME,
    State.REDEEMED: REDELIVERY_LIFETIME,
}
"""Seconds for which a login waits for its browser, by state."""

STATE_BEGINNINGS: Mapping[State, Callable[[Login], float | None]] = {
    State.CONFIRMED: lambda login: login.confirmed_at,
    State.REDEEMED: lambda login: login.redeemed_at,
}
"""Unix time in seconds; None in a login that an older version stored."""

_decode_fields = decoder(Login)

ADD = script("""
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
""")

BY_SCENE = script("""
local id = redis.call('GET', KEYS[1])
return id and redis.call('GET', ARGV[1] .. id)
""")

SWAP = script(
    ADD_CHANGE
    + """
local stored = redis.call('GET', KEYS[1])
if not stored or string.sub(stored, 1, #ARGV[1]) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
if ARGV[4] then
  add_change(ARGV[4], ARGV[5])
end
if not ARGV[6] or type(redis.pcall('PUBLISH', ARGV[6], ARGV[7])) ~= 'number' then
  return 1
end
return 2
"""
)
"""Returns a value of `SwapResult`. If a command after SET is refused, the change stays stored.

ARGV[4], ARGV[5]: the changes of the instance to notify (`login_changes.py`), and the login's id.
The set is not a declared key: a script with two keys is refused while their slot moves.
"""

TOUCH = """
local stored = redis.call('GET', KEYS[1])
if not stored or tonumber(string.match(stored, '^%d+')) < tonumber(ARGV[1]) then
  return 0
end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
"""Renews the TTL if this version or a later one is stored.

Not a `Script`: after NOSCRIPT the EVAL would be sent after the WAIT.
"""


class RedisLoginStore:
    """Stores logins in Redis.

    replica_connection: used for WAIT only, which blocks all later commands of a connection.
    replicas: how many replicas must hold a login before `secure` returns.
    publishes: whether a swap publishes its notice in the same round trip.
    """

    def __init__(
        self,
        *,
        redis: Redis,
        replica_connection: Redis,
        clock: Clock,
        replicas: int,
        publishes: bool,
    ) -> None:
        self._redis = redis
        self._replica_connection = replica_connection
        self._clock = clock
        self._replicas = replicas
        self._publishes = publishes
        self._downtime = (replica_connection if replicas else redis).downtime
        self._changes = RedisLoginChanges(redis)

    async def add(self, login: Login) -> None:
        keys = [_login_key(login.id), _scene_key(login.scene)]
        ttl = self._ttl(login.expires_at)
        await self._redis.run(ADD, keys, _encode(login), login.id, ttl)

    async def get(self, login_id: str) -> Login | None:
        return self._decode(await self._redis.call("GET", _login_key(login_id)))

    async def by_scene(self, scene: str) -> Login | None:
        prefix = _login_prefix(shard_of(scene))
        return self._decode(await self._redis.run(BY_SCENE, [_scene_key(scene)], prefix))

    async def swap(self, before: Login, after: Login, notice: Notice | None = None) -> SwapResult:
        notice_args: tuple[CommandPart, ...] = ()
        if notice is not None:
            notice_args = (changes_key(before.id[:1], before.instance), before.id)
            if self._publishes:
                notice_args += (channel_name(before.instance), encode_notice(notice))
        result = await self._redis.run(
            SWAP,
            [_login_key(before.id)],
            _version_prefix(before.version),
            _encode(after),
            self._ttl(max(before.expires_at, after.expires_at)),
            *notice_args,
        )
        return SWAP_RESULTS[result]

    async def take_changes(self, instance: str, shards: Sequence[str]) -> ChangedLogins:
        return await self._changes.take(instance, shards)

    async def changed(self, known: Mapping[str, int]) -> dict[str, Login | None]:
        by_shard: defaultdict[str, list[str]] = defaultdict(list)
        for login_id in known:
            by_shard[login_id[:1]].append(login_id)
        found = await asyncio.gather(*map(self._read_shard, by_shard, by_shard.values()))
        return {
            login_id: self._decode(stored)
            for pairs in found
            for login_id, stored in pairs
            if stored is None or not stored.startswith(_version_prefix(known[login_id]))
        }

    async def _read_shard(self, shard: str, ids: list[str]) -> Iterable[tuple[str, bytes | None]]:
        prefix = _login_prefix(shard)
        stored = await self._redis.call("MGET", *[prefix + login_id for login_id in ids])
        return zip(ids, stored, strict=True)

    async def secure(self, login: Login) -> None:
        if not self._replicas:
            return
        # WAIT covers the last write on the same connection. TOUCH is a write after the swap's.
        # After a failover it may reach another server, so it checks the version.
        key, ttl = _login_key(login.id), self._ttl(login.expires_at)
        is_stored, replicas = await asyncio.gather(
            self._replica_connection.call("EVAL", TOUCH, 1, key, login.version, ttl),
            self._replica_connection.call("WAIT", self._replicas, WAIT_MS),
        )
        if not is_stored or replicas < self._replicas:
            raise Unavailable("the change is not on enough replicas yet; try again")

    def _decode(self, stored: bytes | None) -> Login | None:
        """Return the stored login.

        The time in which Redis was down or lacked replicas is added to a confirmed login.
        """
        login = decode_or_none(_decode_login, stored)
        if login is None or login.state not in STATE_BEGINNINGS:
            return login
        begin = STATE_BEGINNINGS[login.state](login)
        if begin is None:
            return login
        end = self._downtime.extended(begin, begin + STATE_LIFETIMES[login.state])
        return login if end <= login.expires_at else replace(login, expires_at=end)

    def _ttl(self, end: float) -> int:
        return ttl_milliseconds(end + LOGIN_RETENTION - self._clock())


def _login_prefix(shard: str) -> str:
    return f"scanlogin:{{{shard}}}:login:"


def _login_key(login_id: str) -> str:
    return _login_prefix(login_id[:1]) + login_id


def _scene_key(scene: str) -> str:
    return f"scanlogin:{{{shard_of(scene)}}}:scene:{scene}"


@lru_cache(maxsize=64)
def _version_prefix(version: int) -> bytes:
    """Return the first bytes of each stored login of this version."""
    return b"%d " % version


def _encode(login: Login) -> bytes:
    return _version_prefix(login.version) + encode(login)


def _decode_login(stored: bytes) -> Login:
    return _decode_fields(stored[stored.index(b" ") :])
