"""State in Redis or Valkey: for any number of instances, which share its clock too.

logins.py     logins, by id and by scene
sessions.py   the phones' sessions
leases.py     the pools of codes
duties.py     what one instance does for all
images.py     images of codes that were drawn live
instances.py  profiles of running instances
reading.py    what is stored, read

Redis forgets logins, sessions, duties and images by itself; a pool stays.
"""

from __future__ import annotations

from broker.infrastructure.clock import Clock
from broker.infrastructure.redis import open_redis
from broker.state import StateBackend
from broker.state.redis.code_leases import RedisCodeLeases
from broker.state.redis.instances import RedisInstances
from broker.state.redis.leader_leases import RedisLeaderLeases
from broker.state.redis.login_images import RedisImages
from broker.state.redis.logins import RedisLoginStore
from broker.state.redis.sessions import RedisSessionStore


def open_state(url: str, clock: Clock | None, *, replicas: int, publishes: bool) -> StateBackend:
    redis, careful = open_redis(url, writes=True), open_redis(url)
    time = clock or redis.clock

    async def connect() -> None:
        await redis.open()
        if replicas:
            await careful.open()

    def trouble() -> str | None:
        return redis.unavailable_reason() or (careful.unavailable_reason() if replicas else None)

    async def evicts() -> bool:
        return any(one.evicts for one in await redis.memory())

    async def close() -> None:
        await redis.close()
        await careful.close()

    return StateBackend(
        RedisLoginStore(
            redis=redis,
            replica_connection=careful,
            clock=time,
            replicas=replicas,
            publishes=publishes and redis.one_server,
        ),
        RedisSessionStore(redis, time),
        RedisCodeLeases(redis, time),
        RedisLeaderLeases(redis),
        RedisImages(redis, time),
        clock=time,
        open=connect,
        unavailable_reason=trouble,
        close=close,
        refusal=redis.refusal,
        evicts=evicts,
        instances=RedisInstances(redis, time),
    )
