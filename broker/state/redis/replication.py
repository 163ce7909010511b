"""Waits until replicas hold a change, so that a failover does not lose it."""

from __future__ import annotations

import asyncio

from broker.errors import Unavailable
from broker.infrastructure.redis import Redis
from broker.infrastructure.redis.health import WAIT_MS

TOUCH = """
local stored = redis.call('GET', KEYS[1])
if not stored or string.sub(stored, 1, #ARGV[1]) ~= ARGV[1] then
  return 0
end
return redis.call('PEXPIRE', KEYS[1], redis.call('PTTL', KEYS[1]))
"""
"""Writes the TTL again if the value begins as expected.

Not a `Script`: after NOSCRIPT the EVAL would be sent after the WAIT.
"""


class Replication:
    """Waits for replicas of the state.

    connection: used for WAIT only, which blocks all later commands of a connection.
    replicas: how many replicas must hold a change; 0 waits for none.
    """

    def __init__(self, connection: Redis, replicas: int) -> None:
        self._connection = connection
        self._replicas = replicas

    async def wait_for(self, key: str, prefix: str | bytes) -> None:
        """Return when enough replicas hold `key` with a value that begins with `prefix`.

        They then hold every earlier change too. Raises Unavailable if they do not in time, or if
        the key has another value, as after a failover that lost the change.
        """
        if not self._replicas:
            return
        # WAIT covers the last write on the same connection. TOUCH is a write after the change.
        is_stored, replicas = await asyncio.gather(
            self._connection.call("EVAL", TOUCH, 1, key, prefix),
            self._connection.call("WAIT", self._replicas, WAIT_MS),
        )
        if not is_stored or replicas < self._replicas:
            raise Unavailable("the change is not on enough replicas yet; try again")
