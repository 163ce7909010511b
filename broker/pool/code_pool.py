"""Codes drawn ahead of time, and lent to logins: the lowest free number, with nobody asked
but the state.

filling.py    draws them: from a number to a picture
keeping.py    the job that keeps the pools filled
upkeep.py     one app's part of it            demand.py    how many codes it wants
removed.py    clears the pools of removed apps
"""

from __future__ import annotations

from collections import Counter

import structlog

from broker.errors import Unavailable
from broker.infrastructure.clock import Clock
from broker.login.ports import LOGIN_RETENTION
from broker.pool.model import CodeKey, CodeLease, PooledCode
from broker.pool.ports import CodeLeases, PictureStore

log = structlog.get_logger()


class CodePool:
    """rest: seconds between two logins with one code, at least.  It is longer for as long as
        the former is kept: a late scan must find that one, and not the latter.
    uses: logins after which a code is worn.

    worn: codes that are to be retired.  missed: begins that found a pool empty, by app key.
    Both are for whoever keeps the pools filled, who takes out what it has dealt with.
    """

    def __init__(
        self,
        *,
        leases: CodeLeases,
        pictures: PictureStore,
        clock: Clock,
        cooldown: float,
        uses: int,
    ) -> None:
        self._leases = leases
        self._pictures = pictures
        self._clock = clock
        self._rest = max(cooldown, LOGIN_RETENTION)
        self._uses = uses
        self.worn_out: set[CodeKey] = set()
        self.exhausted: Counter[str] = Counter()

    async def lease(self, app: str, *, until: float) -> PooledCode | None:
        """Lease the lowest free code until then, Unix time in seconds; None if none is free.

        app: the app's key.
        """
        leased = await self._leases.lease(app, until=until, cooldown=self._rest)
        if leased is None:
            self.exhausted[app] += 1
            return None
        code = leased.code
        if leased.uses >= self._uses:
            self.worn_out.add(CodeKey(app, code.number, code.drawing))
        lease = CodeLease(code.number, leased.generation, code.picture)
        return PooledCode(code.scene, self.url_of(lease), lease)

    def url_of(self, lease: CodeLease) -> str:
        """Where a browser finds the picture of a code that is lent."""
        return self._pictures.url(lease.picture)

    async def return_code(self, app: str, lease: CodeLease, *, until: float) -> None:
        """The login is over, which could have lived until then.

        Where that cannot be said now, the lease ends with time.
        """
        cooldown = max(self._rest, until + LOGIN_RETENTION - self._clock())
        try:
            await self._leases.return_code(app, lease.number, lease.generation, cooldown=cooldown)
        except Unavailable:
            log.debug("a code comes back late", app=app, number=lease.number)
