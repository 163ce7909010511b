"""Sign-in sessions: browsers that are signed in at the broker itself."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from broker.infrastructure.clock import Clock
from broker.oidc.metrics import SIGN_INS
from broker.oidc.model import SignIn
from broker.oidc.ports import Grants, SignIns


class Announcer(Protocol):
    """Informs apps that a sign-in session has ended."""

    async def announce(self, sign_in: SignIn, reason: str) -> None: ...


class SignInLifetimes(NamedTuple):
    """Seconds.  idle: without use.  total: however much it is used."""

    idle: int
    total: int


class SignInService:
    """Saves and ends sign-in sessions.

    `end` is the one way to end a session: its families end, and its apps are informed.
    """

    def __init__(
        self,
        *,
        sign_ins: SignIns,
        grants: Grants,
        logouts: Announcer,
        lifetimes: SignInLifetimes,
        clock: Clock,
    ) -> None:
        self._sign_ins = sign_ins
        self._grants = grants
        self._logouts = logouts
        self.lifetimes = lifetimes
        self._clock = clock

    async def save(self, sign_in: SignIn) -> None:
        """Store a session. A subject with too many loses the one with the least time left."""
        expires_at = min(self._clock() + self.lifetimes.idle, sign_in.latest_end)
        for surplus in await self._sign_ins.save(sign_in, expires_at):
            await self._drop_families(surplus.subject, surplus.sid, offline_too=False)
            await self._logouts.announce(surplus, "surplus")
        SIGN_INS.labels(sign_in.app_first).inc()

    async def end(self, subject: str, sid: str, *, offline_too: bool, reason: str = "end") -> int:
        """End a session and its families, and inform its apps.

        offline_too: whether families that outlive the session end too.
        Returns 1 if a session or a family ended, else 0.
        """
        ended = await self._sign_ins.end(subject, sid)
        dropped = await self._drop_families(subject, sid, offline_too=offline_too)
        if ended is not None:
            await self._logouts.announce(ended, reason)
        return int(ended is not None or dropped > 0)

    async def end_all(self, subject: str, *, reason: str) -> int:
        """End all sessions and families of a subject. Returns how many sessions had some."""
        sessions = await self._sign_ins.of_subject(subject)
        families = await self._grants.of_subject(subject)
        sids = {one.sid for one in sessions} | {one.family.grant.sid for one in families}
        ended = [
            await self.end(subject, sid, offline_too=True, reason=reason) for sid in sorted(sids)
        ]
        return sum(ended)

    async def _drop_families(self, subject: str, sid: str, *, offline_too: bool) -> int:
        grants = [one.family.grant for one in await self._grants.of_subject(subject)]
        covered = [
            grant for grant in grants if grant.sid == sid and (offline_too or not grant.offline)
        ]
        for grant in covered:
            await self._grants.drop(grant.family)
        return len(covered)
