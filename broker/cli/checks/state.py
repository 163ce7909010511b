"""Checks of state and bus, and of the clocks."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from broker.bus.settings import BusSettings
from broker.cli.checks.model import Failed, Installation, Skipped, Warned
from broker.cli.checks.public_url import trust
from broker.errors import Unavailable
from broker.infrastructure.coordination import Notice
from broker.infrastructure.redis import Redis, open_redis
from broker.infrastructure.redis.connection import ErrorReply
from broker.state.settings import StateSettings

CLOCK_WARNING, CLOCK_MAX = 5.0, 30.0
"""Seconds that two clocks may differ. Verifiers of tokens allow 30."""

OLDEST_VERSION = (6, 2)
"""As in docs/settings.md."""

KEY = "scanlogin:doctor"

REFUSAL_FIXES: Mapping[str, str] = {
    "NOPERM": "give the user the permissions that docs/alerts.md lists",
    "OOM": "give the server more memory (maxmemory)",
    "READONLY": "use the address of the master, or Sentinel",
    "MISCONF": "let the server save to its disk, which may be full; its log has the reason",
}
"""What to do, by the code of a refused write."""

PROBES = (
    *(f"GET {KEY}", f"MGET {KEY}", f"HGET {KEY} f", f"HSET {KEY} f v", f"HDEL {KEY} f"),
    *(f"HGETALL {KEY}", f"HEXISTS {KEY} f", f"HKEYS {KEY}", f"HSETNX {KEY} f v"),
    *(f"HMGET {KEY} f", f"HINCRBY {KEY} f 1", f"SADD {KEY} m", f"SREM {KEY} m"),
    *(f"EXISTS {KEY}", f"SISMEMBER {KEY} m"),
    *(f"SMEMBERS {KEY}", f"SUNIONSTORE {KEY} {KEY}", f"ZADD {KEY} 1 m", f"ZREM {KEY} m"),
    *(f"ZSCORE {KEY} m", f"ZCARD {KEY}", f"ZCOUNT {KEY} 0 1", f"ZRANGE {KEY} 0 1"),
    *(f"ZRANGEBYLEX {KEY} - +", f"ZRANGEBYSCORE {KEY} 0 1", f"ZPOPMIN {KEY}"),
    *(f"ZREMRANGEBYRANK {KEY} 0 1", f"ZREMRANGEBYSCORE {KEY} 0 1", f"XADD {KEY} * f v"),
    *(f"XDEL {KEY} 1-1", f"XRANGE {KEY} - +", f"XREVRANGE {KEY} + -", f"PTTL {KEY}"),
    *(f"PEXPIRE {KEY} 5000", f"GETDEL {KEY}", f"DEL {KEY}", "TIME", "WAIT 0 1"),
    f"PUBLISH {KEY} x",
)
"""A command for each permission of docs/alerts.md. The key has a text, so that commands for other
types change nothing: a server refuses them for the type after it has checked the permission."""


async def check_state(installation: Installation) -> str:
    state, _ = installation.state_and_bus
    await state.open()
    if reason := state.unavailable_reason():
        raise Failed(reason)
    holder = f"doctor-{secrets.token_hex(8)}"
    try:
        await state.leader_leases.acquire(holder, holder, seconds=5)
        await state.leader_leases.release(holder, holder)
    except Unavailable:
        code = state.refusal() or "NOPERM"
        raise Failed(f"a write is refused: {code}", REFUSAL_FIXES.get(code)) from None
    return f"a lease is stored and deleted in {_scheme(installation)}"


def _scheme(installation: Installation) -> str:
    return urlsplit(installation.settings[StateSettings].state_url).scheme


async def open_server(installation: Installation) -> Redis:
    """Return a connection to the state's server."""
    if _scheme(installation) == "memory":
        raise Skipped("the state is in memory")
    redis = open_redis(installation.settings[StateSettings].state_url, "doctor")
    installation.stack.push_async_callback(redis.close)
    await redis.open()
    if redis.unavailable_reason():
        raise Skipped("needs the check state: round trip")
    if not redis.is_single_server:
        raise Skipped("not read from the servers of a Cluster")
    return redis


async def read_info(installation: Installation, section: str) -> dict[str, str]:
    redis = await open_server(installation)
    reply = await redis.call("INFO", section)
    text = reply.decode() if isinstance(reply, bytes) else str(reply)
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


async def check_version(installation: Installation) -> str:
    info = await read_info(installation, "server")
    version = info.get("redis_version", "0")
    if tuple(map(int, version.split(".")[:2])) < OLDEST_VERSION:
        raise Failed(f"the server has version {version}")
    return f"the server has version {version}"


async def check_eviction(installation: Installation) -> str:
    state, _ = installation.state_and_bus
    if await state.evicts():
        raise Failed("the server may delete logins and sessions to free memory")
    return "the server does not evict keys"


async def check_persistence(installation: Installation) -> str:
    info = await read_info(installation, "persistence")
    if info.get("aof_enabled") != "1":
        raise Warned("a restart of the server loses logins and sessions")
    return "the server has an append-only file"


async def check_permissions(installation: Installation) -> str:
    redis = await open_server(installation)
    if not await _is_permitted(redis, f"SET {KEY} text PX 60000"):
        raise Failed("the user may not run SET")
    refused = [probe.split()[0] for probe in PROBES if not await _is_permitted(redis, probe)]
    if refused:
        raise Failed(f"the user may not run {', '.join(refused)}")
    return "the user may run all commands"


async def _is_permitted(redis: Redis, probe: str) -> bool:
    """Return False if the server refuses the command. Another error means that it is permitted."""
    try:
        await redis.call(*probe.split())
    except Unavailable:
        return False
    except ErrorReply:
        return True
    return True


async def check_bus(installation: Installation) -> str:
    _, bus = installation.state_and_bus
    await bus.open()
    name = f"doctor-{secrets.token_hex(8)}"
    async with bus.listen(name) as notices:
        await bus.publish(name, Notice("doctor", name))
        async with asyncio.timeout(5):
            await anext(notices)
    own_url = installation.settings[BusSettings].bus_url
    return f"a notice to itself arrives{' over its own server' if own_url else ''}"


async def check_state_clock(installation: Installation) -> str:
    if _scheme(installation) == "memory":
        raise Skipped("the state is in memory")
    state, _ = installation.state_and_bus
    return compare_clocks("the state", state.clock() - time.time(), precision=0)


async def check_public_clock(installation: Installation) -> str:
    url = f"{installation.server.public_url}/health/live"
    async with installation.http.get(url, ssl=trust(installation)) as response:
        date = response.headers.get("Date")
    if date is None:
        raise Skipped("the public URL sends no Date")
    difference = parsedate_to_datetime(date).timestamp() - time.time()
    return compare_clocks("the public URL", difference, precision=1)


def compare_clocks(name: str, difference: float, *, precision: float) -> str:
    """difference: in seconds, at most `precision` seconds wrong."""
    text = f"the clock of {name} differs by {difference:.1f} s"
    if abs(difference) > CLOCK_MAX + precision:
        raise Failed(text)
    if abs(difference) > CLOCK_WARNING + precision:
        raise Warned(text)
    return text
