"""Pushes numbered entries to a URL. The instance with the leader lease does this for all.

    page after the cursor ──▶ POST, signed ──2xx──▶ cursor moves
                               │ else
                               └──▶ again after 1, 10, 60, 600 s, then every hour

Each entry is pushed at least once: after a crash, those since the cursor are pushed again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from broker.audit.metrics import DELIVERED, FAILED
from broker.audit.model import ExportedEntry
from broker.audit.ports import AuditExport
from broker.errors import Unavailable
from broker.infrastructure.clock import Clock
from broker.infrastructure.coordination import LeaderLeases
from broker.infrastructure.observability.outage import OutageLog
from broker.infrastructure.outbound.webhook import SiteClient, WebhookFailed, sign

JOB = "audit push"

LEASE_TTL = 30.0
"""Seconds of the leader lease, longer than an attempt and the pause before the next look."""

INTERVAL = 5.0
"""Seconds between two looks for new entries."""

TIMEOUT = 10.0
"""Seconds for an answer."""

PAGE = 100
"""Entries of one request."""

RETRY_DELAYS = (1.0, 10.0, 60.0, 600.0)

LAST_DELAY = 3600.0
"""Seconds before a retry after `RETRY_DELAYS`."""

TYPE = "audit.entry"


def retry_delay(failures: int) -> float:
    """Return the seconds before the next attempt, after this many failures in a row."""
    return RETRY_DELAYS[failures - 1] if failures <= len(RETRY_DELAYS) else LAST_DELAY


def look_delay(retry_in: float) -> float:
    """Return the seconds before the next look.  retry_in: seconds before a retry; <= 0 for none."""
    return min(INTERVAL, retry_in) if retry_in > 0 else INTERVAL


class AuditPusher:
    """url, signing_secrets: of the receiver. instance: the name of this process."""

    def __init__(
        self,
        *,
        export: AuditExport,
        client: SiteClient,
        url: str,
        signing_secrets: Sequence[str],
        leader_leases: LeaderLeases,
        clock: Clock,
        instance: str,
    ) -> None:
        self._export = export
        self._client = client
        self._url = url
        self._signing_secrets = signing_secrets
        self._leader_leases = leader_leases
        self._clock = clock
        self._instance = instance
        self._outage = OutageLog("audit push failed", "audit push recovered")
        self._next_at = 0.0

    async def run(self) -> None:
        """Push entries until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(look_delay(self._next_at - loop.time()))
            with suppress(Unavailable):  # state and records log their outages
                if await self._acquire() and loop.time() >= self._next_at:
                    await self.run_once()

    async def run_once(self) -> None:
        """Push pages until there is none, an attempt fails, or another instance has the lease.

        Raises Unavailable.
        """
        while entries := await self._export.page(await self._export.pushed(), PAGE):
            problem = await self._post(entries)
            if problem:
                FAILED.inc()
                self._outage.failed(problem)
                delay = retry_delay(self._outage.failures)
                self._next_at = asyncio.get_running_loop().time() + delay
                return
            DELIVERED.inc()
            self._outage.recovered()
            await self._export.mark_pushed(_seq(entries[-1]))
            if not await self._acquire():
                return

    async def _acquire(self) -> bool:
        return await self._leader_leases.acquire(JOB, self._instance, seconds=LEASE_TTL)

    async def _post(self, entries: Sequence[ExportedEntry]) -> str:
        """Return why the receiver has not accepted the entries; empty if it has."""
        request = sign(
            self._signing_secrets,
            type=TYPE,
            data={"entries": entries},
            now=self._clock(),
            message_id=f"audit_{_seq(entries[0])}_{_seq(entries[-1])}",
        )
        try:
            async with asyncio.timeout(TIMEOUT):
                status = (await self._client.post(self._url, request)).status
        except TimeoutError:
            return f"no answer within {TIMEOUT:.0f} seconds"
        except WebhookFailed as failed:
            return str(failed)
        return "" if 200 <= status < 300 else f"status {status}"


def _seq(entry: ExportedEntry) -> int:
    return int(str(entry["seq"]))
