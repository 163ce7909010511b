"""Ends tunnels that are due, and frees those of instances that have ended.

The instance with the leader lease does this for all instances.
"""

from __future__ import annotations

import asyncio

import structlog

from broker.errors import Unavailable
from broker.infrastructure.clock import Clock
from broker.infrastructure.coordination import InstanceRegistry, LeaderLeases
from broker.sessions.service import SessionService
from broker.tunnels.closing import TunnelCloser
from broker.tunnels.model import (
    AWAY_TOO_LONG,
    DRAINING,
    SESSION_ENDED,
    ClosedBy,
    Tunnel,
    TunnelState,
)
from broker.tunnels.ports import TunnelQuery, TunnelStores
from broker.tunnels.rules import edit, free

log = structlog.get_logger()

JOB = "tunnels"

LEASE_TTL = 10.0
"""Seconds of the leader lease: after a crash, another instance continues so much later."""

INTERVAL = 2.0
"""Seconds between two runs."""

INSTANCES_INTERVAL = 10.0
"""Seconds between two comparisons with the list of live instances."""

BATCH = 100
"""Tunnels that are handled at once."""

BATCHES_MAX = 20
"""Batches of one run. Due tunnels that are left wait for the next run."""


class TunnelJobs:
    """The jobs of all tunnels.

    away_timeout: seconds without a socket after which a tunnel ends.
    instance: the name of this process.
    """

    def __init__(
        self,
        *,
        stores: TunnelStores,
        closer: TunnelCloser,
        session_service: SessionService,
        leader_leases: LeaderLeases,
        instances: InstanceRegistry,
        clock: Clock,
        away_timeout: float,
        instance: str,
    ) -> None:
        self._stores = stores
        self._closer = closer
        self._session_service = session_service
        self._leader_leases = leader_leases
        self._instances = instances
        self._clock = clock
        self._away_timeout = away_timeout
        self._instance = instance
        self._next_comparison = 0.0

    async def run(self) -> None:
        """Do the jobs until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL)
            try:
                if await self._leader_leases.acquire(JOB, self._instance, seconds=LEASE_TTL):
                    await self.run_once()
            except Unavailable:
                continue  # the next run tries again

    async def run_once(self) -> None:
        """Do what is due. Raises Unavailable."""
        for _ in range(BATCHES_MAX):
            due = await self._stores.index.due(BATCH)
            await asyncio.gather(*map(self._handle_due, due))
            if len(due) < BATCH:
                break
        now = asyncio.get_running_loop().time()
        if now >= self._next_comparison:
            self._next_comparison = now + INSTANCES_INTERVAL
            await self.free_lost()

    async def free_lost(self) -> None:
        """Let the tunnels of instances that have ended be away. Raises Unavailable."""
        owners = await self._stores.index.owners()
        for instance in self._instances.ended(owners):
            log.warning("tunnels of a lost instance", instance=instance)
            await self._free_all(TunnelQuery(instance=instance))

    async def _free_all(self, query: TunnelQuery) -> None:
        after = ""
        while True:
            page = await self._stores.index.find(query, after=after, limit=BATCH)
            await asyncio.gather(*map(self._free, page.tunnels))
            after = page.next
            if not after:
                return

    async def _handle_due(self, tunnel: Tunnel) -> None:
        if tunnel.state is TunnelState.AWAY:
            why = DRAINING if tunnel.lost_by is ClosedBy.DRAIN else AWAY_TOO_LONG
            await self._closer.end(tunnel, why, tunnel.lost_by)
            return
        session = await self._session_service.find(tunnel.session)
        if session is None:
            await self._closer.end(tunnel, SESSION_ENDED, ClosedBy.SERVER)
            return
        later = edit(tunnel, due_at=max(session.expires_at, self._clock() + INTERVAL))
        await self._stores.records.change(later, attachment=tunnel.attachment)

    async def _free(self, tunnel: Tunnel) -> None:
        away = free(tunnel, now=self._clock(), away_timeout=self._away_timeout)
        if away is not None:
            await self._stores.records.change(away, attachment=tunnel.attachment)
