"""Drops silent sockets of this instance, and keeps the records of the others alive.

One task looks at all sockets. No tunnel has a timer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TypeVar

from broker.errors import Unavailable
from broker.infrastructure.clock import Clock
from broker.tunnels.hub import TunnelHub
from broker.tunnels.ports import TunnelStore

SWEEP_INTERVAL = 5.0
"""Seconds between two sweeps: the precision of the idle timeout."""

TOUCH_SWEEPS = 12
"""Sweeps between two writes of `seen_at`."""

TOUCH_BATCH = 500
"""Records of one write."""

T = TypeVar("T")


class SocketSweep:
    """Looks at all sockets every `SWEEP_INTERVAL`."""

    def __init__(self, *, hub: TunnelHub, records: TunnelStore, clock: Clock) -> None:
        self._hub = hub
        self._records = records
        self._clock = clock

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            for _ in range(TOUCH_SWEEPS):
                await asyncio.sleep(SWEEP_INTERVAL)
                self.sweep(asyncio.get_running_loop().time())
            await self.touch()

    def sweep(self, now: float) -> None:
        """Drop the sockets whose client was silent for too long.  now: of the event loop."""
        for socket in self._hub:
            if socket.full_at <= now:
                socket.full_at = 0.0  # frees the number
            if not socket.is_read:
                socket.quiet = 0
                continue
            socket.quiet += 1
            if (socket.quiet - 1) * SWEEP_INTERVAL >= socket.idle_timeout:
                self._hub.abort(socket, "idle")

    async def touch(self) -> None:
        """Write when each client was seen last. An unavailable state is tried next time."""
        now = self._clock()
        seen = (
            (socket.tunnel_id, (socket.attachment, now - socket.quiet * SWEEP_INTERVAL))
            for socket in self._hub
        )
        for batch in _batches(seen):
            try:
                lost = await self._records.touch(batch)
            except Unavailable:
                return
            for tunnel_id in lost:
                self._hub.wake(tunnel_id)


def _batches(items: Iterable[tuple[str, T]]) -> Iterator[Mapping[str, T]]:
    remaining = iter(items)
    while batch := dict(islice(remaining, TOUCH_BATCH)):
        yield batch
