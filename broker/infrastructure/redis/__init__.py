"""The one door to Redis, and to Valkey: connections, Sentinel, Cluster, scripts, channels.

redis-py finds the server (TLS, passwords, Sentinel, Cluster's map) and shakes
hands with it.  On a single server and under Sentinel the connection is then
ours: a `Wire`, on which commands follow each other without waiting and replies
are matched in order.  A `Reconnector` keeps one wire alive.  On Cluster redis-py's
client carries the commands.

Whatever is wrong with the server, a caller sees `Unavailable`, soon: a wire
that is silent is dropped, and while there is none, callers are refused at once.

wire.py      one live connection, and what a channel carries
server.py    one server, or Sentinel's master of the moment
cluster.py   a Redis Cluster
downtime.py  when the server took no writes
memory.py    whether a server evicts keys
urls.py      which of them a URL names
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from broker.infrastructure.redis.connection import Reply
from broker.infrastructure.redis.downtime import Downtime
from broker.infrastructure.redis.memory_policy import Memory
from broker.infrastructure.redis.scripts import CommandPart, Script
from broker.infrastructure.redis.subscription import MessageQueue
from broker.infrastructure.redis.urls import open_from_url

__all__ = [
    "CommandPart",
    "MessageQueue",
    "Redis",
    "Reply",
    "Script",
    "open_redis",
]


class Redis(Protocol):
    """A server, or a Cluster, as the state and the bus see it.

    one_server: all channels are at one place, so that a script may publish to any.
    downtime: when it took no writes lately.
    """

    one_server: bool
    downtime: Downtime

    async def open(self) -> None:
        """Connect, and go on trying for as long as it takes; returns after the first try."""

    def unavailable_reason(self) -> str | None:
        """Why nothing can be asked just now; None when it can."""

    def refusal(self) -> str | None:
        """The error word by which writes are refused, such as OOM; None while they are accepted."""

    def clock(self) -> float:
        """The server's Unix time in seconds: one time for all instances."""

    async def call(self, *command: CommandPart) -> Reply:
        """The reply to a command; raises Unavailable."""

    async def run(
        self, what: Script, keys: Sequence[CommandPart], *arguments: CommandPart
    ) -> Reply:
        """The reply of a script; raises Unavailable."""

    async def publish(self, channel: str, payload: bytes) -> None:
        """Raises Unavailable."""

    async def memory(self) -> Sequence[Memory]:
        """Memory settings of each server; empty if INFO is refused.  Raises Unavailable."""

    def subscribe(self, channel: str) -> AbstractAsyncContextManager[MessageQueue]:
        """What `channel` carries, from entering on; raises Unavailable."""

    async def close(self) -> None:
        """Let go of every connection."""


def open_redis(url: str, *, writes: bool = False) -> Redis:
    """Return the Redis of `url`, not yet connected; raises ValueError.

    writes: whether the server is probed for `refusal`.
    """
    return open_from_url(url, writes=writes)
