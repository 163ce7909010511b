"""Counts round trips to Redis: how often the broker waits for replies, one wait after another."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from broker.infrastructure.redis.connection import RedisConnection, Reply
from broker.infrastructure.redis.scripts import CommandPart


class RoundTrips:
    """The round trips of commands with keys of these kinds, over all connections.

    Commands that are sent before the first of their replies share one round trip. The next
    command that is sent after a reply begins another one.
    """

    def __init__(self, kinds: set[str]) -> None:
        self._kinds = kinds
        self._has_reply = True
        self.count = 0

    def add(self, command: tuple[CommandPart, ...], reply: asyncio.Future[Reply]) -> None:
        if not self._kinds & kinds_of_keys(command):
            return
        if self._has_reply:
            self.count += 1
            self._has_reply = False
        reply.add_done_callback(self._receive)

    def _receive(self, reply: asyncio.Future[Reply]) -> None:
        self._has_reply = True


@contextmanager
def counted_round_trips(kinds: set[str]) -> Iterator[RoundTrips]:
    """Count the round trips inside the ``with`` block, of brokers in this process."""
    trips, send = RoundTrips(kinds), RedisConnection.send

    def counted(connection: RedisConnection, *command: CommandPart) -> asyncio.Future[Reply]:
        reply = send(connection, *command)
        trips.add(command, reply)
        return reply

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RedisConnection, "send", counted)
        yield trips


def kinds_of_keys(command: tuple[CommandPart, ...]) -> set[str]:
    """Return the kinds of keys, such as `login` of `scanlogin:{s}:login:<id>`."""
    names = [part for part in command if isinstance(part, str) and part.startswith("scanlogin:{")]
    return {name.split(":")[2] for name in names}
