"""Logins in Redis: one key each, and one that leads there from the scene.

    scanlogin:{s}:login:<id>      "<version> <the login as JSON>"
    scanlogin:{s}:scene:<scene>   the login's id

`s` is the login's shelf, which stands in its id and follows from its scene
(`login.shelf`): whatever belongs to one login lies on one node of a Cluster, and
a scene is followed to its login in one round trip.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache

from msgspec.structs import replace

from broker.errors import Unavailable
from broker.infrastructure.clock import Clock
from broker.infrastructure.codec import decoder, encode
from broker.infrastructure.coordination import Notice
from broker.infrastructure.redis import Redis
from broker.infrastructure.redis.channels import channel_name
from broker.infrastructure.redis.scripts import CommandPart, script
from broker.infrastructure.sharding import shard_of
from broker.login.model import REDEEM_LIFETIME, REDELIVERY_LIFETIME, Login, State
from broker.login.ports import LOGIN_RETENTION, SwapResult
from broker.state.redis.encoding import decode_or_none, ttl_milliseconds

SWAP_RESULTS = tuple(SwapResult)

WAITS: Mapping[State, float] = {
    State.CONFIRMED: REDEEM_LIFETIME,
    State.REDEEMED: REDELIVERY_LIFETIME,
}
"""Seconds for which a login waits for its browser after a confirm, by state."""

WAITS_FROM: Mapping[State, Callable[[Login], float | None]] = {
    State.CONFIRMED: lambda login: login.confirmed_at,
    State.REDEEMED: lambda login: login.redeemed_at,
}
"""Unix time in seconds; None in a login that an older version stored."""

_login_fields = decoder(Login)

WAIT_MS = 1_000
"""Milliseconds that a replica gets to take over what it must hold."""

ADD = script("""
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
""")

BY_SCENE = script("""
local id = redis.call('GET', KEYS[1])
return id and redis.call('GET', ARGV[1] .. id)
""")

SWAP = script("""
local stored = redis.call('GET', KEYS[1])
if not stored or string.sub(stored, 1, #ARGV[1]) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
if not ARGV[4] or type(redis.pcall('PUBLISH', ARGV[4], ARGV[5])) ~= 'number' then
  return 1
end
return 2
""")
"""Says what `SwapResult` says.  Where the notice may not be sent, the change stands."""

TOUCH = """
local stored = redis.call('GET', KEYS[1])
if not stored or tonumber(string.match(stored, '^%d+')) < tonumber(ARGV[1]) then
  return 0
end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
"""Writes where that version, or a later one, is stored.  No `Script`: a second question,
where the server has forgotten it, would come after the WAIT."""


class RedisLoginStore:
    """replicas: how many must hold a login before it is secure.
    tells: whether notices go out with the changes that they tell of.

    `careful` is a connection for waiting on them: nothing else waits behind it.
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
        self._careful = replica_connection
        self._clock = clock
        self._replicas = replicas
        self._tells = publishes

    async def add(self, login: Login) -> None:
        keys = [_login_key(login.id), _scene_key(login.scene)]
        await self._redis.run(ADD, keys, _packed(login), login.id, self._life_ms(login.expires_at))

    async def get(self, login_id: str) -> Login | None:
        return self._unpacked(await self._redis.call("GET", _login_key(login_id)))

    async def by_scene(self, scene: str) -> Login | None:
        prefix = _login_prefix(shard_of(scene))
        return self._unpacked(await self._redis.run(BY_SCENE, [_scene_key(scene)], prefix))

    async def swap(self, before: Login, after: Login, notice: Notice | None = None) -> SwapResult:
        life = self._life_ms(max(before.expires_at, after.expires_at))
        publish_args: tuple[CommandPart, ...] = ()
        if notice is not None and self._tells:
            publish_args = (channel_name(before.instance), encode(notice))
        stored = await self._redis.run(
            SWAP,
            [_login_key(before.id)],
            _mark(before.version),
            _packed(after),
            life,
            *publish_args,
        )
        return SWAP_RESULTS[stored]

    async def changed(self, known: Mapping[str, int]) -> dict[str, Login | None]:
        shelves: defaultdict[str, list[str]] = defaultdict(list)
        for name in known:
            shelves[name[:1]].append(name)
        found = await asyncio.gather(*map(self._read, shelves, shelves.values()))
        return {
            name: self._unpacked(stored)
            for pairs in found
            for name, stored in pairs
            if stored is None or not stored.startswith(_mark(known[name]))
        }

    async def _read(self, place: str, ids: list[str]) -> Iterable[tuple[str, bytes | None]]:
        prefix = _login_prefix(place)
        stored = await self._redis.call("MGET", *[prefix + name for name in ids])
        return zip(ids, stored, strict=True)

    async def secure(self, login: Login) -> None:
        if not self._replicas:
            return
        # WAIT counts from this connection's own last write, which comes after the swap's.
        key, life = _login_key(login.id), self._life_ms(login.expires_at)
        # It may be to another server than the swap's, when a failover comes in between.
        written, held = await asyncio.gather(
            self._careful.call("EVAL", TOUCH, 1, key, login.version, life),
            self._careful.call("WAIT", self._replicas, WAIT_MS),
        )
        if not written or held < self._replicas:
            raise Unavailable("the change is not safe on a replica yet; ask again")

    def _unpacked(self, stored: bytes | None) -> Login | None:
        """The stored login.  A confirmed one gets the time back in which Redis was down."""
        login = decode_or_none(_login, stored)
        if login is None or login.state not in WAITS_FROM:
            return login
        begin = WAITS_FROM[login.state](login)
        if begin is None:
            return login
        end = self._redis.downtime.extended(begin, begin + WAITS[login.state])
        return login if end <= login.expires_at else replace(login, expires_at=end)

    def _life_ms(self, end: float) -> int:
        return ttl_milliseconds(end + LOGIN_RETENTION - self._clock())


def _login_prefix(shelf_of_it: str) -> str:
    return f"scanlogin:{{{shelf_of_it}}}:login:"


def _login_key(login_id: str) -> str:
    return _login_prefix(login_id[:1]) + login_id


def _scene_key(scene: str) -> str:
    return f"scanlogin:{{{shard_of(scene)}}}:scene:{scene}"


@lru_cache(maxsize=64)
def _mark(version: int) -> bytes:
    """What a stored login of this version begins with, and no other."""
    return b"%d " % version


def _packed(login: Login) -> bytes:
    return _mark(login.version) + encode(login)


def _login(stored: bytes) -> Login:
    return _login_fields(stored[stored.index(b" ") :])
