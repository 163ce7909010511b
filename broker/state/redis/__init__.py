"""State in Redis or Valkey, for any number of instances. They share the server's clock.

logins.py                  logins, by id and by scene
sessions.py                phone sessions
authorization_requests.py  authorization requests of OpenID Connect
sign_ins.py                sign-in sessions
grants.py                  authorization codes and families of refresh tokens
retry_queue.py             calls that are made later
tunnels.py                 tunnels: tickets and records
tunnel_streams.py          messages for the clients of tunnels
tunnel_inbox.py            numbers of the callbacks of tunnels
tunnel_index.py            tunnels by app, subject, group, person and instance
tunnel_news.py             tunnels that have changed, for each instance
tunnel_keys.py             keys of tunnels, and which of them are in one slot
chat.py                    chat
chat_rooms.py              entries of rooms
chat_restrictions.py       kicks and mutes
chat_members.py            members of rooms
chat_people.py             chat sessions and conversations
chat_changes.py            changes of rooms and people, for each instance
chat_keys.py               keys of chat
code_leases.py             pools of codes
leader_leases.py           leader leases
login_images.py            images of codes that were drawn live
user_codes.py              short codes that people type
instances.py               profiles of running instances
replication.py             waits until replicas hold a change
keys.py                    prefixes and lives of keys
encoding.py                decoding of stored values, milliseconds

Everything except the pools has a TTL in Redis.
"""

from __future__ import annotations

from broker.infrastructure.clock import Clock
from broker.infrastructure.redis import open_redis
from broker.state import StateBackend
from broker.state.redis.authorization_requests import RedisAuthorizationRequests
from broker.state.redis.chat import open_chat
from broker.state.redis.code_leases import RedisCodeLeases
from broker.state.redis.grants import RedisGrants
from broker.state.redis.instances import RedisInstances
from broker.state.redis.leader_leases import RedisLeaderLeases
from broker.state.redis.login_images import RedisImages
from broker.state.redis.logins import RedisLoginStore
from broker.state.redis.replication import Replication
from broker.state.redis.retry_queue import RedisRetryQueue
from broker.state.redis.sessions import RedisSessionStore
from broker.state.redis.sign_ins import RedisSignIns
from broker.state.redis.tunnels import open_tunnels
from broker.state.redis.user_codes import RedisUserCodes


class StateConnections:
    """The connections of the state.

    main: for everything except WAIT.
    replica: for WAIT. It is opened only if `replicas` is not 0.
    """

    def __init__(self, url: str, *, replicas: int) -> None:
        self.main = open_redis(url, "state", writes=True)
        self.replica = open_redis(url, "replica", writes=True, replicas=replicas)
        self._used = (self.main, self.replica) if replicas else (self.main,)

    async def open(self) -> None:
        for connection in self._used:
            await connection.open()

    def unavailable_reason(self) -> str | None:
        reasons = (connection.unavailable_reason() for connection in self._used)
        return next(filter(None, reasons), None)

    def unready_reason(self) -> str | None:
        reasons = (connection.unready_reason() for connection in self._used)
        return next(filter(None, reasons), None)

    async def evicts(self) -> bool:
        return any(server.evicts for server in await self.main.memory())

    async def close(self) -> None:
        await self.main.close()
        await self.replica.close()


def open_state(url: str, clock: Clock | None, *, replicas: int, publishes: bool) -> StateBackend:
    connections = StateConnections(url, replicas=replicas)
    redis = connections.main
    replication = Replication(connections.replica, replicas)
    time = clock or redis.clock
    publishes = publishes and redis.is_single_server
    return StateBackend(
        RedisLoginStore(
            redis=redis,
            replica_connection=connections.replica,
            clock=time,
            replicas=replicas,
            publishes=publishes,
        ),
        RedisSessionStore(redis, time),
        RedisCodeLeases(redis, time),
        RedisLeaderLeases(redis),
        RedisImages(redis, time),
        RedisUserCodes(redis, time),
        clock=time,
        open=connections.open,
        unavailable_reason=connections.unavailable_reason,
        unready_reason=connections.unready_reason,
        close=connections.close,
        refusal=redis.refusal,
        evicts=connections.evicts,
        instances=RedisInstances(redis, time),
        authorization_requests=RedisAuthorizationRequests(redis, time),
        sign_ins=RedisSignIns(redis, time),
        grants=RedisGrants(redis, replication, time),
        retries=RedisRetryQueue(redis, time),
        tunnels=open_tunnels(redis, time, publishes=publishes),
        chat=open_chat(redis, replication, time, publishes=publishes),
    )
