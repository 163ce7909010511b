"""Client for Redis and Valkey: connections, Sentinel, Cluster, scripts and subscriptions.

redis-py finds the server and does the handshake (TLS, passwords, Sentinel, the slots of a
Cluster). With a single server and under Sentinel, a `RedisConnection` then takes over the
socket: it sends commands without waiting for replies and matches replies in order. A
`Reconnector` keeps one connection alive. With a Cluster, redis-py's client sends the commands.

If a server fails in any way, callers get `Unavailable` within seconds: a connection without
replies is closed, and without a connection commands fail at once.

connection.py     one connection
reconnector.py    keeps a connection alive
server.py         one server, or the current master under Sentinel
cluster.py        a Redis Cluster
subscription.py   subscriptions to channels
channels.py       channel names and notice encoding
scripts.py        Lua scripts
health.py         whether a server answers, accepts writes and has enough replicas
downtime.py       recent outages
memory_policy.py  whether a server evicts keys
server_clock.py   the server's time
urls.py           parses URLs
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from broker.infrastructure.redis.connection import Reply
from broker.infrastructure.redis.downtime import Downtime
from broker.infrastructure.redis.memory_policy import MemoryPolicy
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
    """A server or a Cluster.

    is_single_server: whether all channels are on one server, so that a script can publish to any.
    downtime: recent outages.
    """

    is_single_server: bool
    downtime: Downtime

    async def open(self) -> None:
        """Connect, and retry in the background until closed. Returns after the first attempt."""

    def unavailable_reason(self) -> str | None:
        """Return why no command can succeed now; None if the server is available.

        The text of an error may contain host names.
        """

    def unready_reason(self) -> str | None:
        """Return why logins cannot work now; None if they can. It contains no host names."""

    def refusal(self) -> str | None:
        """Return the error code with which writes are refused, such as OOM, or None."""

    def clock(self) -> float:
        """Return the server's Unix time in seconds, the same for all instances."""

    async def call(self, *command: CommandPart) -> Reply:
        """Return the reply to a command. Raises Unavailable."""

    async def run(
        self, script: Script, keys: Sequence[CommandPart], *arguments: CommandPart
    ) -> Reply:
        """Run a script and return its reply. Raises Unavailable."""

    async def publish(self, channel: str, payload: bytes) -> None:
        """Publish a message. Raises Unavailable."""

    async def memory(self) -> Sequence[MemoryPolicy]:
        """Return the memory policy of each server; none if INFO is refused. Raises Unavailable."""

    def subscribe(self, channel: str) -> AbstractAsyncContextManager[MessageQueue]:
        """Receive the messages of `channel` inside the ``async with`` block.

        Raises Unavailable if the subscription fails.
        """

    async def close(self) -> None:
        """Close every connection."""


def open_redis(url: str, name: str, *, writes: bool = False, replicas: int = 0) -> Redis:
    """Return the server or Cluster at `url`, not connected yet. Raises ValueError.

    name: of the connection in log events, such as `bus`.
    writes: whether the server is probed for accepting writes, see `Redis.refusal`.
    replicas: how many replicas must hold the write of a probe; not for a Cluster.
    """
    return open_from_url(url, name, writes=writes, replicas=replicas)
