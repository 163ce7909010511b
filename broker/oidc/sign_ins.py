"""Sign-in sessions: browsers that are signed in at the broker itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from broker.apps.model import App
from broker.audit.model import AuditEntry, AuditKind
from broker.audit.ports import AuditTrail
from broker.infrastructure.clock import Clock
from broker.infrastructure.observability.feed import NO_FEED, Feed
from broker.login.model import Browser, Login
from broker.oidc.families import login_family
from broker.oidc.metrics import SIGN_INS
from broker.oidc.model import Family, SignIn, acr_of, hash_secret
from broker.oidc.ports import Grants, SignIns


class Announcer(Protocol):
    """Informs apps that a sign-in session has ended."""

    async def prepare(self, sign_in: SignIn) -> None: ...

    async def announce(self, sign_in: SignIn, reason: str) -> None: ...


class SignInLifetimes(NamedTuple):
    """Seconds.  idle: without use.  total: however much it is used."""

    idle: int
    total: int


class SubjectSignIn(NamedTuple):
    """A sign-in of a subject: a session, and the families that follow from it.

    sign_in: None if the session has ended; its offline families remain.
    """

    sid: str
    sign_in: SignIn | None
    families: Sequence[Family]

    @property
    def apps(self) -> Sequence[str]:
        """The ids of its apps, in the order of their first use."""
        if self.sign_in is not None:
            return sorted(self.sign_in.apps, key=self.sign_in.apps.__getitem__)
        return list(dict.fromkeys(one.grant.app for one in self.families))

    @property
    def login_ids(self) -> set[str]:
        """The ids of the logins that led to it."""
        own = {self.sign_in.login_id} if self.sign_in is not None else set()
        return own | {one.grant.login_id for one in self.families}

    @property
    def began_at(self) -> float:
        if self.sign_in is not None:
            return self.sign_in.began_at
        return min(one.began_at for one in self.families)

    @property
    def used_at(self) -> float:
        """The time of the last authorization request or refresh."""
        times = [one.used_at for one in self.families]
        return max(times if self.sign_in is None else [*times, self.sign_in.used_at])


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
        trail: AuditTrail,
        lifetimes: SignInLifetimes,
        clock: Clock,
        feed: Feed = NO_FEED,
    ) -> None:
        self._sign_ins = sign_ins
        self._grants = grants
        self._logouts = logouts
        self._trail = trail
        self.lifetimes = lifetimes
        self._clock = clock
        self._feed = feed

    def of_login(
        self, login: Login, app: App, browser: Browser, *, sid: str, cookie: str | None = None
    ) -> SignIn:
        """Return the new session of a confirmed login, for `save`.

        cookie: of the browser; None for a session that only `app` uses.
        """
        assert login.phone is not None
        assert login.subject is not None
        now = self._clock()
        return SignIn(
            sid=sid,
            subject=login.subject,
            identity=login.phone.identity,
            cookie_hash=None if cookie is None else hash_secret(cookie),
            app_first=app.id,
            auth_time=login.confirmed_at or now,
            amr=login.auth_methods,
            acr=acr_of(login.auth_methods),
            login_id=login.id,
            ip=browser.ip,
            user_agent=browser.user_agent,
            apps={app.id: now},
            incarnations={app.id: app.incarnation},
            began_at=now,
            used_at=now,
            latest_end=now + self.lifetimes.total,
        )

    async def save(self, sign_in: SignIn) -> None:
        """Store a session. A subject with too many loses the one with the least time left."""
        expires_at = min(self._clock() + self.lifetimes.idle, sign_in.latest_end)
        for surplus in await self._sign_ins.save(sign_in, expires_at):
            await self._drop_families(surplus.subject, surplus.sid, offline_too=False)
            await self._logouts.announce(surplus, "surplus")
            self._record_end(surplus, "surplus")
        self._trail.add(
            AuditEntry(
                AuditKind.SIGNIN,
                "began",
                self._clock(),
                app=sign_in.app_first,
                incarnation=sign_in.first_incarnation,
                subject=sign_in.subject,
                target=sign_in.sid,
                ip=sign_in.ip,
                user_agent=sign_in.user_agent,
            )
        )
        SIGN_INS.labels(sign_in.app_first).inc()
        self._feed.publish("signin", "began", id=sign_in.sid, app=sign_in.app_first)

    async def end(self, subject: str, sid: str, *, offline_too: bool, reason: str = "end") -> int:
        """End a session and its families, and inform its apps.

        offline_too: whether families that outlive the session end too.
        Returns 1 if a session or a family ended, else 0.
        """
        for sign_in in await self._sign_ins.of_subject(subject):
            if sign_in.sid == sid:
                await self._logouts.prepare(sign_in)  # this instance may die after the end
        ended = await self._sign_ins.end(subject, sid)
        dropped = await self._drop_families(subject, sid, offline_too=offline_too)
        if ended is not None:
            self._feed.publish("signin", "ended", id=sid, app=ended.app_first)
            await self._logouts.announce(ended, reason)
            self._record_end(ended, reason)
        return int(ended is not None or dropped > 0)

    async def of_subject(self, subject: str) -> Sequence[SubjectSignIn]:
        """Return the subject's sign-ins, the oldest first."""
        sessions = {one.sid: one for one in await self._sign_ins.of_subject(subject)}
        families: dict[str, list[Family]] = {sid: [] for sid in sessions}
        for state in await self._grants.of_subject(subject):
            # The session may have begun after the first query.
            if state.is_active:
                families.setdefault(state.family.grant.sid, []).append(state.family)
        found = [SubjectSignIn(sid, sessions.get(sid), ones) for sid, ones in families.items()]
        return sorted(found, key=lambda one: one.began_at)

    async def end_of_login(self, subject: str, login_id: str) -> int:
        """End the sign-ins of one login, and return how many there were.

        Chats that began with the token of a login on a page end too.
        """
        ended = [
            await self.end(subject, one.sid, offline_too=True, reason="reported")
            for one in await self.of_subject(subject)
            if login_id in one.login_ids
        ]
        await self._grants.drop(login_family(subject, login_id))
        return sum(ended)

    async def end_all(self, subject: str, *, reason: str) -> int:
        """End all sign-ins of a subject, and return how many there were."""
        ended = [
            await self.end(subject, one.sid, offline_too=True, reason=reason)
            for one in await self.of_subject(subject)
        ]
        return sum(ended)

    def _record_end(self, sign_in: SignIn, reason: str) -> None:
        self._trail.add(
            AuditEntry(
                AuditKind.LOGOUT,
                "ended",
                self._clock(),
                app=sign_in.app_first,
                incarnation=sign_in.first_incarnation,
                subject=sign_in.subject,
                target=sign_in.sid,
                reason=reason,
            )
        )

    async def _drop_families(self, subject: str, sid: str, *, offline_too: bool) -> int:
        grants = [one.family.grant for one in await self._grants.of_subject(subject)]
        covered = [
            grant for grant in grants if grant.sid == sid and (offline_too or not grant.offline)
        ]
        for grant in covered:
            await self._grants.drop(grant.family)
        return len(covered)
