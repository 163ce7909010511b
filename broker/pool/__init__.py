"""Codes drawn ahead of time, and lent to logins: the lowest free number, with nobody asked
but the state.

filling.py    draws them: from a number to a picture
keeping.py    the job that keeps the pools filled
upkeep.py     one app's part of it            demand.py    how many codes it wants
removed.py    clears the pools of removed apps
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import structlog

from broker.errors import Unavailable
from broker.login import Lease
from broker.pictures import PictureStore
from broker.records import Drawing
from broker.state import KEPT, Clock, Leases

log = structlog.get_logger()


class Lent(NamedTuple):
    """A code that is one login's: what it carries, where its picture is, and its lease."""

    scene: str
    url: str
    lease: Lease


class Pool:
    """rest: seconds between two logins with one code, at least.  It is longer for as long as
        the former is kept: a late scan must find that one, and not the latter.
    uses: logins after which a code is worn.

    worn: codes that are to be retired.  missed: begins that found a pool empty, by app key.
    Both are for whoever keeps the pools filled, who takes out what it has dealt with.
    """

    def __init__(
        self, *, leases: Leases, pictures: PictureStore, clock: Clock, rest: float, uses: int
    ) -> None:
        self._leases = leases
        self._pictures = pictures
        self._clock = clock
        self._rest = max(rest, KEPT)
        self._uses = uses
        self.worn: set[Drawing] = set()
        self.missed: Counter[str] = Counter()

    async def lend(self, app: str, *, until: float) -> Lent | None:
        """Lease the lowest free code until then, Unix time in seconds; None if none is free.

        app: the app's key.
        """
        leased = await self._leases.lease(app, until=until, rest=self._rest)
        if leased is None:
            self.missed[app] += 1
            return None
        code = leased.code
        if leased.uses >= self._uses:
            self.worn.add(Drawing(app, code.number, code.drawing))
        lease = Lease(code.number, leased.generation, code.picture)
        return Lent(code.scene, self.url_of(lease), lease)

    def url_of(self, lease: Lease) -> str:
        """Where a browser finds the picture of a code that is lent."""
        return self._pictures.url(lease.picture)

    async def give_back(self, app: str, lease: Lease, *, until: float) -> None:
        """The login is over, which could have lived until then.

        Where that cannot be said now, the lease ends with time.
        """
        rest = max(self._rest, until + KEPT - self._clock())
        try:
            await self._leases.give_back(app, lease.number, lease.generation, rest=rest)
        except Unavailable:
            log.debug("a code comes back late", app=app, number=lease.number)
