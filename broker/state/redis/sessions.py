"""Sessions in Redis: one key each.

scanlogin:session:{<id>}      the session as JSON
"""

from __future__ import annotations

from broker.packing import pack, unpacker
from broker.redis_link import Redis
from broker.state import Clock, Session
from broker.state.redis.reading import sound

_session = unpacker(Session)


class RedisSessions:
    def __init__(self, redis: Redis, clock: Clock) -> None:
        self._redis = redis
        self._clock = clock

    async def put(self, session: Session) -> None:
        life = max(1, round((session.expires_at - self._clock()) * 1_000))
        await self._redis.call("SET", _session_key(session.id), pack(session), "PX", life)

    async def get(self, session_id: str) -> Session | None:
        stored = await self._redis.call("GET", _session_key(session_id))
        session = sound(_session, stored)
        return session if session and session.expires_at > self._clock() else None


def _session_key(session_id: str) -> str:
    return f"scanlogin:session:{{{session_id}}}"
