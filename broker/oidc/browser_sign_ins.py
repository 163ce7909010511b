"""Sign-in sessions of browsers: begin, use, and single sign-on."""

from __future__ import annotations

import secrets
from dataclasses import replace

from broker.apps.model import App
from broker.apps.ports import Apps
from broker.identity.errors import UnregisteredUser, UserBlocked
from broker.identity.model import UserProfile
from broker.identity.ports import Directory
from broker.infrastructure.clock import Clock
from broker.login.model import Browser, Login
from broker.oidc.model import SignIn, hash_secret, subject_shard
from broker.oidc.ports import SignIns
from broker.oidc.sign_ins import SignInService

SID_LENGTH = 22


class BrowserSignIns:
    """Begins and uses the sign-in sessions of browsers.

    profiles: the directory, with answers of the last minute.
    is_open: whether the directory accepts every identity. Subjects then differ between the
        provider accounts of apps.
    """

    def __init__(
        self,
        *,
        sign_ins: SignIns,
        service: SignInService,
        apps: Apps,
        profiles: Directory,
        clock: Clock,
        is_open: bool,
    ) -> None:
        self._sign_ins = sign_ins
        self._service = service
        self._apps = apps
        self._profiles = profiles
        self._clock = clock
        self._is_open = is_open

    async def by_cookie(self, cookie: str | None) -> SignIn | None:
        """Return the active session of a browser, or None."""
        if cookie is None:
            return None
        return await self._sign_ins.by_cookie(cookie[:1], hash_secret(cookie))

    async def shared(self, cookie: str | None, app: App) -> SignIn | None:
        """Return the active session of a browser, or None; an app without `sso` uses none."""
        return await self.by_cookie(cookie) if app.sso else None

    async def is_usable(self, sign_in: SignIn, app: App) -> bool:
        """Return whether the session may complete a request of `app` without a scan.

        Both apps have `sso`, and the person has the same subject in both: either both have the
        same provider account, or the directory knows the person.
        """
        if not app.sso:
            return False
        if app.id in sign_in.apps:
            return sign_in.incarnations.get(app.id) == app.incarnation
        first = self._apps.get(sign_in.app_first)
        if first is None or not first.sso:
            return False
        if sign_in.incarnations.get(first.id) != first.incarnation:
            return False
        return not self._is_open or self._account(first) == self._account(app)

    async def profile(self, sign_in: SignIn) -> UserProfile | None:
        """Return the user, or None if the directory refuses the user now; the session ends then.

        Raises Unavailable if the directory cannot decide, and RateLimited for too many requests
        about this user; the session stays then.
        """
        try:
            profile = await self._profiles.find(sign_in.identity)
        except (UnregisteredUser, UserBlocked) as refusal:
            await self._service.end_all(sign_in.subject, reason=refusal.error)
            return None
        return profile if profile.subject == sign_in.subject else None

    async def use(self, sign_in: SignIn, app: App) -> None:
        """Add `app` to the session and set its idle end again."""
        now = self._clock()
        used = replace(
            sign_in,
            used_at=now,
            apps={app.id: now, **sign_in.apps},
            incarnations={app.id: app.incarnation, **sign_in.incarnations},
        )
        await self._sign_ins.touch(used, now + self._service.lifetimes.idle)

    async def of_login(
        self,
        login: Login,
        app: App,
        browser: Browser,
        *,
        sid: str,
        cookie: str | None,
        former: SignIn | None,
    ) -> SignIn:
        """Return the session of a confirmed login, for `save`.

        sid, cookie: of a new session. A browser that is signed in as the same person keeps its
            `sid` and gets the new cookie; the session of another person ends.
        former: the session of the browser; None if it has none or the app has no `sso`.
        """
        sign_in = self._service.of_login(login, app, browser, sid=sid, cookie=cookie)
        if former is not None and former.subject != sign_in.subject:
            await self._service.end(
                former.subject, former.sid, offline_too=False, reason="other person"
            )
        elif former is not None:
            sign_in = replace(
                sign_in, sid=former.sid, app_first=former.app_first, began_at=former.began_at
            )
        return sign_in

    async def save(self, sign_in: SignIn) -> None:
        """Begin a session."""
        await self._service.save(sign_in)

    def _account(self, app: App) -> tuple[str, str]:
        """Return what identifies the provider account of `app`."""
        owner = self._apps.get(app.scanned_by) or app
        return (owner.provider, owner.provider_app_id)


def new_record_id(subject: str) -> str:
    """Return a random id of a session or family, in the subject's shard."""
    return subject_shard(subject) + secrets.token_urlsafe(SID_LENGTH)[: SID_LENGTH - 1]
