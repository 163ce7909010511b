"""State in Redis or Valkey, for any number of instances. They share the server's clock.

logins.py         logins, by id and by scene
sessions.py       phone sessions
code_leases.py    pools of codes
leader_leases.py  leader leases
login_images.py   images of codes that were drawn live
instances.py      profiles of running instances
encoding.py       decoding of stored values, milliseconds

Logins, sessions, leader leases, images and profiles have a TTL in Redis. Pools have none.
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
    redis, replica_connection = open_redis(url, writes=True), open_redis(url)
    connections = (redis, replica_connection) if replicas else (redis,)
    time = clock or redis.clock

    async def connect() -> None:
        for connection in connections:
            await connection.open()

    def unavailable_reason() -> str | None:
        reasons = (connection.unavailable_reason() for connection in connections)
        return next(filter(None, reasons), None)

    async def evicts() -> bool:
        return any(server.evicts for server in await redis.memory())

    async def close() -> None:
        await redis.close()
        await replica_connection.close()

    return StateBackend(
        RedisLoginStore(
            redis=redis,
            replica_connection=replica_connection,
            clock=time,
            replicas=replicas,
            publishes=publishes and redis.is_single_server,
        ),
        RedisSessionStore(redis, time),
        RedisCodeLeases(redis, time),
        RedisLeaderLeases(redis),
        RedisImages(redis, time),
        clock=time,
        open=connect,
        unavailable_reason=unavailable_reason,
        close=close,
        refusal=redis.refusal,
        evicts=evicts,
        instances=RedisInstances(redis, time),
    )
