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

from broker.redis_link import open_redis
from broker.state import Clock, Store
from broker.state.redis.duties import RedisDuties
from broker.state.redis.images import RedisImages
from broker.state.redis.instances import RedisInstances
from broker.state.redis.leases import RedisLeases
from broker.state.redis.logins import RedisLogins
from broker.state.redis.sessions import RedisSessions


def open_store(url: str, clock: Clock | None, *, replicas: int, tells: bool) -> Store:
    redis, careful = open_redis(url, writes=True), open_redis(url)
    time = clock or redis.clock

    async def connect() -> None:
        await redis.open()
        if replicas:
            await careful.open()

    def trouble() -> str | None:
        return redis.trouble() or (careful.trouble() if replicas else None)

    async def evicts() -> bool:
        return any(one.evicts for one in await redis.memory())

    async def close() -> None:
        await redis.close()
        await careful.close()

    return Store(
        RedisLogins(
            redis=redis,
            careful=careful,
            clock=time,
            replicas=replicas,
            tells=tells and redis.one_server,
        ),
        RedisSessions(redis, time),
        RedisLeases(redis, time),
        RedisDuties(redis),
        RedisImages(redis, time),
        clock=time,
        open=connect,
        trouble=trouble,
        close=close,
        refusal=redis.refusal,
        evicts=evicts,
        instances=RedisInstances(redis, time),
    )
