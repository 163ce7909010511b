"""One login, start to finish.

Each act is: read, `apply`, `swap`, `publish`.  The change is stored before
anybody is told; a notice that could not be sent is logged and the act stands,
for the browser finds the truth by asking.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

import structlog

from broker.apps.errors import UnknownApp
from broker.apps.model import App
from broker.apps.ports import Apps
from broker.errors import BrokerError, Unavailable
from broker.identity.errors import UnregisteredUser, UserBlocked
from broker.identity.model import Phone
from broker.identity.ports import Directory
from broker.infrastructure.background import spawn
from broker.infrastructure.clock import Clock
from broker.infrastructure.coordination import Bus, Notice
from broker.infrastructure.sharding import shard_of
from broker.login.codes import CodeSource
from broker.login.delivery import RedeemedLogin
from broker.login.errors import AlreadyRedeemed, UnknownLogin, UnknownScene
from broker.login.events import EVENT_BY_STATE, MOVED_EVENT, UNREGISTERED_EVENT
from broker.login.metrics import REDELIVERIES, login_counter
from broker.login.model import OPEN, Act, Browser, Login, State, apply
from broker.login.ports import AuditLog, LoginStore, SwapResult
from broker.tokens.issuer import TokenIssuer

log = structlog.get_logger()


CLOSE_TIMEOUT = 3.0
"""Seconds to wait for codes to be given back when the process ends."""


class NewLogin(NamedTuple):
    """A new login, the secret that only its browser is told, and its code as an image URL."""

    login: Login
    secret: str
    code_url: str


class ScannedLogin(NamedTuple):
    """What the person must see before confirming: which login, for which app."""

    login: Login
    app: App


class LoginService:
    """instance: this process's name on the bus.

    lifetime: of a code, in seconds, for apps that say nothing of their own.
    register_lifetime: seconds that an unregistered person gets to register and confirm again.
    """

    def __init__(
        self,
        *,
        logins: LoginStore,
        bus: Bus,
        apps: Apps,
        trail: AuditLog,
        codes: CodeSource,
        directory: Directory,
        issuer: TokenIssuer,
        clock: Clock,
        instance: str,
        lifetime: int,
        register_lifetime: int,
    ) -> None:
        self._logins = logins
        self._bus = bus
        self._apps = apps
        self._trail = trail
        self._codes = codes
        self._directory = directory
        self._issuer = issuer
        self._clock = clock
        self._instance = instance
        self._lifetime = lifetime
        self._register_lifetime = register_lifetime
        self._background: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Wait until the codes of logins that have ended are given back, for `CLOSE_TIMEOUT`."""
        if self._background:
            await asyncio.wait(self._background, timeout=CLOSE_TIMEOUT)
        for task in self._background:
            task.cancel()

    async def begin(
        self,
        app_id: str,
        browser: Browser,
        *,
        has_socket: bool,
        incarnation: str | None = None,
    ) -> NewLogin:
        """A fresh login with its code.

        `waits_here`: the browser is on a socket of this instance and wants to be told.
        `incarnation`: of the app that the browser was admitted to, if that was earlier.
        Raises UnknownApp, or Unavailable when no code can be drawn or kept.
        """
        app = await self._app(app_id)
        if incarnation not in (None, app.incarnation):
            raise UnknownApp
        now = self._clock()
        expires_at = now + (app.login_lifetime or self._lifetime)
        code = await self._codes.acquire(
            app, until=expires_at, address=browser.ip, is_shown_again=not has_socket
        )
        secret = secrets.token_urlsafe(32)
        login = Login(
            id=shard_of(code.scene) + secrets.token_urlsafe(16)[1:],
            scene=code.scene,
            secret_hash=hash_secret(secret),
            app=app.id,
            browser=browser,
            began_at=now,
            expires_at=expires_at,
            instance=self._instance if has_socket else "",
            lease=code.lease,
            incarnation=app.incarnation,
        )
        await self._logins.add(login)
        login_counter(login.app, login.state).inc()
        return NewLogin(login, secret, code.url)

    async def scan(self, scene: str, phone: Phone) -> ScannedLogin:
        """Take the login under `scene` for `phone`; nobody else can confirm it from then on."""
        login = await self._logins.by_scene(scene)
        if login is None or login.app != phone.app or not await self._is_of_current_app(login):
            raise UnknownScene
        login = await self._apply_and_store(login, Act.SCAN, phone=phone)
        return ScannedLogin(login, await self._app(login.app))

    async def confirm(self, login_id: str, phone: Phone) -> Login:
        """Let the browser in as whoever the directory says `phone` is.

        Raises UnregisteredUser for an unknown person: the browser is notified, the login
        stays scanned for the time to register, and a later confirm works.  For
        somebody blocked it raises UserBlocked, and the login ends denied: nothing
        that they could do would let them in.
        """
        login = await self._login_in_app(login_id, phone)
        if apply(login, Act.CONFIRM, now=self._clock(), phone=phone) is login:
            await self._logins.secure(login)
            return login  # a repeat, which is none of the directory's business
        try:
            subject = await self._directory.find(phone.identity)
        except UnregisteredUser:
            await self._await_registration(login)
            app = await self._app(login.app)
            raise UnregisteredUser(**register_url_field(app)) from None
        except UserBlocked:
            await self._apply_and_store(login, Act.DENY, phone=phone)
            raise
        login = await self._apply_and_store(login, Act.CONFIRM, phone=phone, subject=subject)
        await self._logins.secure(login)
        return login

    async def _await_registration(self, login: Login) -> None:
        """Extend a login, once, and notify its browser; nothing if it has left `scanned`.

        A code of the pool is returned, because no phone needs to scan it again.  It rests
        for as long as the extended login is kept.
        """
        while not login.unregistered:
            until = self._clock() + self._register_lifetime
            extended = login.awaiting_registration(until=until)
            if await self._logins.swap(login, extended):
                self._give_back(extended)
                break
            login = await self._read(login.id)
            if login.state is not State.SCANNED:
                return
        await self._publish(login.instance, Notice(UNREGISTERED_EVENT, login.id))

    async def deny(self, login_id: str, phone: Phone) -> Login:
        login = await self._login_in_app(login_id, phone)
        return await self._apply_and_store(login, Act.DENY, phone=phone)

    async def redeem(self, login_id: str, secret: str, *, app: str) -> RedeemedLogin:
        """Return the token of a confirmed login to the client with its secret.

        A repeat within `REDELIVERY_LIFETIME` returns the same token, with the same `jti`, `iat` and
        `exp`, from any instance and over any transport: only the client knows whether the
        first answer reached it.  Later repeats raise AlreadyRedeemed.
        """
        before = await self._login_by_secret(login_id, secret, app)
        login = await self._apply_and_store(before, Act.REDEEM)
        await self._logins.secure(login)
        token = self._issuer.issue(login)
        if token.expires_in <= 0:
            raise AlreadyRedeemed
        if before.state is State.REDEEMED:
            REDELIVERIES.inc()
        return RedeemedLogin(login, token)

    async def resume(self, login_id: str, secret: str, *, app: str) -> Login:
        """The login as it stands, its browser from now on at this instance."""
        login = await self._login_by_secret(login_id, secret, app)
        while True:
            moved = login.on_instance(self._instance)
            if moved is login:
                break
            if await self._swap_and_publish(login, moved, MOVED_EVENT):
                break
            login = await self._read(login_id)
        return moved.at(self._clock())

    async def cancel(self, login_id: str, secret: str, *, app: str) -> Login:
        login = await self._login_by_secret(login_id, secret, app)
        return await self._apply_and_store(login, Act.CANCEL)

    async def abandon(self, login_id: str) -> None:
        """Cancel a login whose own socket has begun another.

        One that is over stays as it is, and one that cannot be reached now ends with time.
        """
        with suppress(BrokerError):
            await self._apply_and_store(await self._read(login_id), Act.CANCEL)

    async def get(self, login_id: str) -> Login | None:
        """The login as it stands now; None for one that was forgotten."""
        login = await self._logins.get(login_id)
        return None if login is None else login.at(self._clock())

    async def get_changed(self, known: Mapping[str, int]) -> dict[str, Login | None]:
        """Of the logins in `known` (id: version) those that are another version now, as they stand.

        None for one that is gone.
        """
        changed = await self._logins.changed(known)
        return {name: login and self._record_if_expired(login) for name, login in changed.items()}

    async def code_url(self, scene: str) -> str:
        """The code of a login that can still be scanned, as an image's URL.

        Raises UnknownScene.
        """
        login = await self._logins.by_scene(scene)
        if login is None or login.at(self._clock()).state is not State.PENDING:
            raise UnknownScene
        if not await self._is_of_current_app(login):
            raise UnknownScene
        return await self._codes.url_of(login, await self._app(login.app))

    async def _apply_and_store(
        self, login: Login, act: Act, *, phone: Phone | None = None, subject: str | None = None
    ) -> Login:
        while True:
            now = self._clock()
            issued_at = self._issuer.issue_time(now) if act is Act.REDEEM else None
            after = apply(login, act, now=now, phone=phone, subject=subject, issued_at=issued_at)
            if after is login:
                return after
            if await self._swap_and_publish(login, after, EVENT_BY_STATE.get(after.state)):
                login_counter(after.app, after.state).inc()
                if after.state not in OPEN:
                    self._trail.record(after, now=self._clock())
                    self._give_back(after)
                return after
            login = await self._read(login.id)

    async def _swap_and_publish(self, before: Login, after: Login, event: str | None) -> bool:
        """Store a change and tell the instance where the browser waited until now, if any.

        False where another change was first.
        """
        notice = Notice(event, before.id) if event and before.instance else None
        swapped = await self._logins.swap(before, after, notice)
        if swapped is SwapResult.STORED and notice is not None:
            await self._publish(before.instance, notice)
        return swapped is not SwapResult.CONFLICT

    def _give_back(self, login: Login) -> None:
        """Return the code of a login to its pool, in the background."""
        if login.lease is None:
            return
        task = spawn("code return", self._codes.return_code(login))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _publish(self, instance: str, notice: Notice) -> None:
        """Send a notice to where the browser waits, if it waits on a socket at all."""
        if not instance:
            return
        try:
            await self._bus.publish(instance, notice)
        except Unavailable as error:
            log.warning(
                "notice not sent",
                login_id=notice.id,
                notice=notice.event,
                reason=str(error),
            )

    async def _app(self, app_id: str) -> App:
        app = await self._apps.get(app_id)
        if app is None:
            raise UnknownApp
        return app

    async def _is_of_current_app(self, login: Login) -> bool:
        """Whether no other app has taken over the id of the app that the login began in.

        True for an app that was only removed: its logins in progress finish.
        """
        app = await self._apps.get(login.app)
        return app is None or app.incarnation == login.incarnation

    async def _read(self, login_id: str) -> Login:
        login = await self._logins.get(login_id)
        if login is None:
            raise UnknownLogin
        return login

    async def _login_in_app(self, login_id: str, phone: Phone) -> Login:
        login = await self._read(login_id)
        if login.app != phone.app or not await self._is_of_current_app(login):
            raise UnknownLogin
        return login

    async def _login_by_secret(self, login_id: str, secret: str, app: str) -> Login:
        login = await self._logins.get(login_id)
        expected = login.secret_hash if login else hash_secret("")
        if (
            not hmac.compare_digest(expected, hash_secret(secret))
            or login is None
            or login.app != app
        ):
            raise UnknownLogin
        if not await self._is_of_current_app(login):
            raise UnknownLogin
        self._record_if_expired(login)
        return login

    def _record_if_expired(self, login: Login) -> Login:
        """The login as it stands now; where time has ended it, that is noted."""
        now = self._clock()
        current = login.at(now)
        if current.state is State.EXPIRED:
            self._trail.record(current, now=now)
        return current


def register_url_field(app: App) -> dict[str, str]:
    """`register_url` for an answer, where the app has one."""
    return {"register_url": app.register_url} if app.register_url else {}


def hash_secret(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
