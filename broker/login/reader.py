"""Reads logins by id, by scene or by secret."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence

import structlog

from broker.apps.ports import Apps
from broker.identity.model import Phone, UserProfile
from broker.infrastructure.clock import Clock
from broker.login.errors import UnknownLogin, UnknownScene
from broker.login.metrics import login_counter
from broker.login.model import Login, State
from broker.login.ports import AuditLog, ChangedLogins, LoginStore, UserCodes

log = structlog.get_logger()

EXPIRED_MAX = 10_000
"""Expired logins that are recognized at a repeat. A login that expires while a browser or a device
asks for it is read several times within `LOGIN_RETENTION`."""


UNKNOWN_VERSION = -1
"""No login has this version, so a login that is known by it counts as changed."""


class LoginReader:
    """Reads logins and records those that have expired.

    `get` and `get_changed` return logins in their state at the present time, and None for a
    login that is not stored. The `require` methods return logins as stored, which `swap`
    needs, and raise an error for a login that the caller may not use. Only
    `record_if_expired` and `take_changes` have an effect.
    """

    def __init__(
        self,
        *,
        logins: LoginStore,
        user_codes: UserCodes,
        apps: Apps,
        audit_log: AuditLog,
        clock: Clock,
    ) -> None:
        self._logins = logins
        self._user_codes = user_codes
        self._apps = apps
        self._audit_log = audit_log
        self._clock = clock
        self._expired: dict[str, None] = {}  # ids that were recorded, oldest first

    async def get(self, login_id: str) -> Login | None:
        login = await self._logins.get(login_id)
        return None if login is None else login.at(self._clock())

    async def get_changed(self, known: Mapping[str, int]) -> dict[str, Login | None]:
        """Return the logins in `known` (id: version) that have another version now."""
        changed = await self._logins.changed(known)
        now = self._clock()
        return {name: login and login.at(now) for name, login in changed.items()}

    async def take_changes(self, instance: str, shards: Sequence[str]) -> ChangedLogins:
        """Return the logins that may have changed, see `LoginStore.take_changes`."""
        return await self._logins.take_changes(instance, shards)

    async def require(self, login_id: str) -> Login:
        """Raises UnknownLogin for a login that is not stored."""
        login = await self._logins.get(login_id)
        if login is None:
            raise UnknownLogin
        return login

    async def require_by_scene(self, scene: str) -> Login:
        """Raises UnknownScene for a login that is not stored or belongs to a former app."""
        login = await self._logins.by_scene(scene)
        if login is None or not self._is_of_current_app(login):
            raise UnknownScene
        return login

    async def require_by_user_code(self, code: str) -> Login:
        """Raises UnknownScene for a code without a login, or of a login of a former app."""
        login_id = await self._user_codes.find(code)
        login = None if login_id is None else await self._logins.get(login_id)
        if login is None or not self._is_of_current_app(login):
            raise UnknownScene
        return login

    async def require_in_app(self, login_id: str, phone: Phone) -> Login:
        """Raises UnknownLogin for a login that the phone's app may not scan."""
        login = await self.require(login_id)
        if not (self.is_scanned_by(login, phone) and self._is_of_current_app(login)):
            raise UnknownLogin
        return login

    def is_scanned_by(self, login: Login, phone: Phone) -> bool:
        """Return whether phones of this app scan the codes of the login's app.

        An app that was removed scans its logins in progress.
        """
        app = self._apps.get(login.app)
        return phone.app == (login.app if app is None else app.scanned_by)

    def granted_name(self, login: Login, profile: UserProfile) -> str | None:
        """Return the user's name if the phone shows that the app gets the scope `profile`."""
        app = self._apps.get(login.app)
        shown = login.scope if login.scope is not None or app is None else app.scopes
        return profile.name if "profile" in (shown or ()) else None

    async def require_by_secret(self, login_id: str, secret: str, *, app: str) -> Login:
        """Raises UnknownLogin for an unknown id, a wrong secret or another app."""
        return self.check_secret(await self._logins.get(login_id), secret, app=app)

    def check_secret(self, login: Login | None, secret: str, *, app: str) -> Login:
        """Return a login as stored. Raises UnknownLogin for none, a wrong secret or another app.

        The secret is compared in constant time, also if there is no login.
        """
        expected = login.secret_hash if login else hash_secret("")
        is_secret = hmac.compare_digest(expected, hash_secret(secret))
        if not is_secret or login is None or login.app != app:
            raise UnknownLogin
        if not self._is_of_current_app(login):
            raise UnknownLogin
        return login

    def record_if_expired(self, login: Login) -> None:
        """Write the login to the audit log if it has expired. A repeat changes nothing."""
        now = self._clock()
        current = login.at(now)
        if current.state is State.EXPIRED and current.id not in self._expired:
            self._remember_expired(current.id)
            login_counter(current.app, current.state).inc()
            log_end(current, current.expires_at)
            self._audit_log.record(current, now=now)

    def _remember_expired(self, login_id: str) -> None:
        if len(self._expired) >= EXPIRED_MAX:
            del self._expired[next(iter(self._expired))]
        self._expired[login_id] = None

    def _is_of_current_app(self, login: Login) -> bool:
        """Whether the id of the login's app has not been given to another app since.

        True for an app that was only removed: its logins in progress finish.
        """
        app = self._apps.get(login.app)
        return app is None or app.incarnation == login.incarnation


def log_end(login: Login, ended_at: float) -> None:
    log.info(
        "login finished",
        app=login.app,
        state=login.state.value,
        login_id=login.id,
        seconds=round(ended_at - login.began_at, 3),
    )


def hash_secret(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
