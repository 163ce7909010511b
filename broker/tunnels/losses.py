"""Records that sockets were lost, so that their tunnels are away."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from itertools import islice

from broker.errors import Unavailable
from broker.infrastructure.clock import Clock
from broker.tunnels.model import ClosedBy
from broker.tunnels.ports import TunnelStore
from broker.tunnels.rules import lose

RETRY_DELAY = 0.5
"""Seconds before a failed change is repeated."""

BATCH = 50
"""Tunnels that change at once."""

CLOSE_TIMEOUT = 3.0
"""Seconds for the last changes when the process ends. Another instance makes the others."""


class LostSockets:
    """Lets tunnels be away. It repeats a change until the state has answered.

    away_timeout: seconds until an away tunnel ends.
    """

    def __init__(self, *, records: TunnelStore, clock: Clock, away_timeout: float) -> None:
        self._records = records
        self._clock = clock
        self._away_timeout = away_timeout
        self._lost: dict[str, tuple[int, ClosedBy]] = {}
        self._has_lost = asyncio.Event()

    def add(self, tunnel_id: str, attachment: int, by: ClosedBy) -> None:
        """Let the tunnel be away, if it still has this attachment."""
        self._lost[tunnel_id] = (attachment, by)
        self._has_lost.set()

    async def run(self) -> None:
        """Store losses until cancelled."""
        while True:
            await self._has_lost.wait()
            await self._try_batch()

    async def flush(self) -> None:
        """Wait up to `CLOSE_TIMEOUT` until all losses are stored."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                while self._lost:
                    await self._try_batch()

    async def _try_batch(self) -> None:
        try:
            await self._store_batch()
        except Unavailable:
            await asyncio.sleep(RETRY_DELAY)

    async def _store_batch(self) -> None:
        """Raises Unavailable if a change failed. It is repeated with the next batch then."""
        batch = dict(islice(self._lost.items(), BATCH))
        results = await asyncio.gather(
            *(self._store(one, *loss) for one, loss in batch.items()), return_exceptions=True
        )
        failures = [result for result in results if isinstance(result, BaseException)]
        for (tunnel_id, loss), result in zip(batch.items(), results, strict=True):
            if result is None and self._lost.get(tunnel_id) == loss:
                del self._lost[tunnel_id]
        if not self._lost:
            self._has_lost.clear()
        if failures:
            raise failures[0]

    async def _store(self, tunnel_id: str, attachment: int, by: ClosedBy) -> None:
        while True:
            tunnel = await self._records.get(tunnel_id)
            if tunnel is None or tunnel.attachment != attachment:
                return
            away = lose(tunnel, by, now=self._clock(), away_timeout=self._away_timeout)
            if away is None or await self._records.change(away, attachment=attachment):
                return
