"""State in Redis or Valkey: for any number of instances, which share its clock too.

    scanlogin:{s}:login:<id>      "<version> <the login as JSON>"
    scanlogin:{s}:scene:<scene>   the login's id
    scanlogin:session:{<id>}      the session as JSON

`s` is the login's shelf, which stands in its id and follows from its scene
(`login.shelf`): whatever belongs to one login lies on one node of a Cluster, and
a scene is followed to its login in one round trip.  Redis forgets by itself.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, partial
from typing import Any, TypeVar

import structlog

from broker.errors import Unavailable
from broker.login import Browser, Claim, Identity, Login, Phone, State, shelf
from broker.redis_link import Redis, open_redis, script
from broker.state import KEPT, Clock, Session, Store

log = structlog.get_logger()

T = TypeVar("T")

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
return 1
""")

TOUCH = """
local stored = redis.call('GET', KEYS[1])
if not stored or tonumber(string.match(stored, '^%d+')) < tonumber(ARGV[1]) then
  return 0
end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
"""Writes where that version, or a later one, is stored.  No `Script`: a second question,
where the server has forgotten it, would come after the WAIT."""


class RedisLogins:
    """replicas: how many must hold a login before it is secure.

    `careful` is a connection for waiting on them: nothing else waits behind it.
    """

    def __init__(self, *, redis: Redis, careful: Redis, clock: Clock, replicas: int) -> None:
        self._redis = redis
        self._careful = careful
        self._clock = clock
        self._replicas = replicas

    async def add(self, login: Login) -> None:
        keys = [_login_key(login.id), _scene_key(login.scene)]
        await self._redis.run(ADD, keys, _packed(login), login.id, self._life_ms(login.expires_at))

    async def get(self, login_id: str) -> Login | None:
        return _unpacked(await self._redis.call("GET", _login_key(login_id)))

    async def by_scene(self, scene: str) -> Login | None:
        prefix = _login_prefix(shelf(scene))
        return _unpacked(await self._redis.run(BY_SCENE, [_scene_key(scene)], prefix))

    async def swap(self, before: Login, after: Login) -> bool:
        life = self._life_ms(max(before.expires_at, after.expires_at))
        stored = await self._redis.run(
            SWAP, [_login_key(before.id)], _mark(before.version), _packed(after), life
        )
        return bool(stored)

    async def changed(self, known: Mapping[str, int]) -> dict[str, Login | None]:
        shelves: defaultdict[str, list[str]] = defaultdict(list)
        for name in known:
            shelves[name[:1]].append(name)
        found = await asyncio.gather(*map(self._read, shelves, shelves.values()))
        return {
            name: _unpacked(stored)
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

    def _life_ms(self, end: float) -> int:
        return max(1, round((end + KEPT - self._clock()) * 1_000))


class RedisSessions:
    def __init__(self, redis: Redis, clock: Clock) -> None:
        self._redis = redis
        self._clock = clock

    async def put(self, session: Session) -> None:
        life = max(1, round((session.expires_at - self._clock()) * 1_000))
        fields = {
            "skey_hash": session.skey_hash.hex(),
            "phone": _phone_fields(session.phone),
            "expires_at": session.expires_at,
        }
        await self._redis.call("SET", _session_key(session.id), _json(fields), "PX", life)

    async def get(self, session_id: str) -> Session | None:
        stored = await self._redis.call("GET", _session_key(session_id))
        session = _sound(partial(_session, session_id), stored)
        return session if session and session.expires_at > self._clock() else None


def _login_prefix(shelf_of_it: str) -> str:
    return f"scanlogin:{{{shelf_of_it}}}:login:"


def _login_key(login_id: str) -> str:
    return _login_prefix(login_id[:1]) + login_id


def _scene_key(scene: str) -> str:
    return f"scanlogin:{{{shelf(scene)}}}:scene:{scene}"


def _session_key(session_id: str) -> str:
    return f"scanlogin:session:{{{session_id}}}"


@lru_cache(maxsize=64)
def _mark(version: int) -> bytes:
    """What a stored login of this version begins with, and no other."""
    return b"%d " % version


def _packed(login: Login) -> bytes:
    fields = {
        "id": login.id,
        "scene": login.scene,
        "secret_hash": login.secret_hash.hex(),
        "app": login.app,
        "browser": login.browser,
        "began_at": login.began_at,
        "expires_at": login.expires_at,
        "instance": login.instance,
        "state": login.state,
        "phone": login.phone and _phone_fields(login.phone),
        "subject": login.subject,
        "confirmed_at": login.confirmed_at,
        "unregistered": login.unregistered,
        "claim": login.claim,
    }
    return _mark(login.version) + _json(fields)


def _unpacked(stored: bytes | None) -> Login | None:
    return _sound(_login, stored)


def _sound(read: Callable[[bytes], T], stored: bytes | None) -> T | None:
    """What is stored, read; what cannot be read is as good as gone.

    It may be from another version of ours, and must not keep the others from being read.
    """
    if stored is None:
        return None
    try:
        return read(stored)
    except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
        log.warning("what is stored cannot be read", kind=type(error).__name__)
        return None


def _session(session_id: str, stored: bytes) -> Session:
    fields = json.loads(stored)
    return Session(
        id=session_id,
        skey_hash=bytes.fromhex(fields["skey_hash"]),
        phone=_phone(fields["phone"]),
        expires_at=fields["expires_at"],
    )


def _login(stored: bytes) -> Login:
    version, _, text = stored.partition(b" ")
    fields: dict[str, Any] = json.loads(text)
    return Login(
        version=int(version),
        id=fields["id"],
        scene=fields["scene"],
        secret_hash=bytes.fromhex(fields["secret_hash"]),
        app=fields["app"],
        browser=Browser(*fields["browser"]),
        began_at=fields["began_at"],
        expires_at=fields["expires_at"],
        instance=fields["instance"],
        state=State(fields["state"]),
        phone=fields["phone"] and _phone(fields["phone"]),
        subject=fields["subject"],
        confirmed_at=fields["confirmed_at"],
        unregistered=fields["unregistered"],
        claim=fields["claim"] and Claim(*fields["claim"]),
    )


def _phone_fields(phone: Phone) -> list[str]:
    return [phone.app, *phone.identity]


def _phone(fields: list[str]) -> Phone:
    return Phone(fields[0], Identity(*fields[1:]))


def _json(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


def open_store(url: str, clock: Clock | None, replicas: int) -> Store:
    redis, careful = open_redis(url), open_redis(url)
    time = clock or redis.clock

    async def connect() -> None:
        await redis.open()
        if replicas:
            await careful.open()

    async def close() -> None:
        await redis.close()
        await careful.close()

    return Store(
        RedisLogins(redis=redis, careful=careful, clock=time, replicas=replicas),
        RedisSessions(redis, time),
        clock=time,
        open=connect,
        trouble=redis.trouble,
        close=close,
    )
