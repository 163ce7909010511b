"""Leases codes that were drawn in advance to logins; only the state is needed for it.

filler.py      draws codes and stores their pictures
scheduler.py   maintains all pools in the background
maintainer.py  maintains the pool of one app      demand.py  estimates how many codes it needs
state_sync.py  copies codes from the records to the state
cleaner.py     deletes the pools of removed apps
"""

from __future__ import annotations

from collections import Counter

import structlog

from broker.errors import Unavailable
from broker.infrastructure.clock import Clock
from broker.pool.model import CodeKey, CodeLease, PooledCode
from broker.pool.ports import CodeLeases, PictureStore

log = structlog.get_logger()


class CodePool:
    """Leases pool codes to logins.

    cooldown: seconds between two leases of a code, at least `retention`: a late scan must
        find the login that it was meant for.
    retention: seconds for which a login is stored after its end.
    uses: leases after which a code is retired.

    codes_to_retire: codes that have reached `uses`.
    missed_leases: leases that found no free code, by app key.
    The scheduler removes entries from both when it has handled them.
    """

    def __init__(
        self,
        *,
        leases: CodeLeases,
        pictures: PictureStore,
        clock: Clock,
        cooldown: float,
        retention: float,
        uses: int,
    ) -> None:
        self._leases = leases
        self._pictures = pictures
        self._clock = clock
        self._cooldown = max(cooldown, retention)
        self._retention = retention
        self._uses = uses
        self.codes_to_retire: set[CodeKey] = set()
        self.missed_leases: Counter[str] = Counter()

    async def lease(self, app: str, *, until: float) -> PooledCode | None:
        """Lease the lowest free code until then, Unix time in seconds; None if none is free.

        app: the app's key.
        """
        leased = await self._leases.lease(app, until=until, cooldown=self._cooldown)
        if leased is None:
            self.missed_leases[app] += 1
            return None
        code = leased.code
        if leased.uses >= self._uses:
            self.codes_to_retire.add(CodeKey(app, code.number, code.drawing))
        lease = CodeLease(code.number, leased.generation, code.picture)
        return PooledCode(code.scene, self.url_of(lease), lease)

    def url_of(self, lease: CodeLease) -> str:
        """Return the URL at which browsers fetch the picture of a leased code."""
        return self._pictures.url(lease.picture)

    async def return_code(self, app: str, lease: CodeLease, *, until: float) -> None:
        """End the lease of a login that could have lived until then.

        If the state is unavailable, the lease expires by itself.
        """
        cooldown = max(self._cooldown, until + self._retention - self._clock())
        try:
            await self._leases.return_code(app, lease.number, lease.generation, cooldown=cooldown)
        except Unavailable:
            log.debug("code return failed", app=app, number=lease.number)
