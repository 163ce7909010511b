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

from broker import metrics
from broker.background import spawn
from broker.bus import Bus
from broker.codes import CodeSource
from broker.directories import Directory
from broker.errors import (
    AlreadyRedeemed,
    BrokerError,
    Unavailable,
    UnknownApp,
    UnknownLogin,
    UnknownScene,
    UnregisteredUser,
    UserBlocked,
)
from broker.login import (
    OPEN,
    Act,
    Browser,
    Login,
    Notice,
    Phone,
    State,
    apply,
    shelf,
)
from broker.records import App, Apps, Trail
from broker.state import Clock, Logins, Swapped
from broker.tokens import Issuer, Token

log = structlog.get_logger()

EVENTS: Mapping[State, str] = {
    State.SCANNED: "login-scanned",
    State.CONFIRMED: "login-confirmed",
    State.DENIED: "login-denied",
    State.EXPIRED: "login-expired",
}
"""What the browser hears when its login has come to a state."""

MOVED = "login-moved"
"""What an instance hears when another has taken the login over; its browser hears nothing."""

UNREGISTERED = "login-unregistered"
"""What it hears when the directory does not know who confirmed: the login stays scanned."""


CLOSE_TIMEOUT = 3.0
"""Seconds to wait for codes to be given back when the process ends."""


class Begun(NamedTuple):
    """A new login, the secret that only its browser is told, and its code as an image URL."""

    login: Login
    secret: str
    code_url: str


class Scanned(NamedTuple):
    """What the person must see before confirming: which login, for which app."""

    login: Login
    app: App


class Redeemed(NamedTuple):
    login: Login
    token: Token


class Flow:
    """instance: this process's name on the bus.

    lifetime: of a code, in seconds, for apps that say nothing of their own.
    register_lifetime: seconds that an unregistered person gets to register and confirm again.
    """

    def __init__(
        self,
        *,
        logins: Logins,
        bus: Bus,
        apps: Apps,
        trail: Trail,
        codes: CodeSource,
        directory: Directory,
        issuer: Issuer,
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
        self._leaving: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Wait until the codes of logins that have ended are given back, for `CLOSE_TIMEOUT`."""
        if self._leaving:
            await asyncio.wait(self._leaving, timeout=CLOSE_TIMEOUT)
        for task in self._leaving:
            task.cancel()

    async def begin(
        self,
        app_id: str,
        browser: Browser,
        *,
        waits_here: bool,
        incarnation: str | None = None,
    ) -> Begun:
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
        code = await self._codes.take(
            app, until=expires_at, address=browser.ip, is_shown_again=not waits_here
        )
        secret = secrets.token_urlsafe(32)
        login = Login(
            id=shelf(code.scene) + secrets.token_urlsafe(16)[1:],
            scene=code.scene,
            secret_hash=_hash(secret),
            app=app.id,
            browser=browser,
            began_at=now,
            expires_at=expires_at,
            instance=self._instance if waits_here else "",
            lease=code.lease,
            incarnation=app.incarnation,
        )
        await self._logins.add(login)
        metrics.logins(login.app, login.state).inc()
        return Begun(login, secret, code.url)

    async def scan(self, scene: str, phone: Phone) -> Scanned:
        """Take the login under `scene` for `phone`; nobody else can confirm it from then on."""
        login = await self._logins.by_scene(scene)
        if login is None or login.app != phone.app or not await self._is_of_current_app(login):
            raise UnknownScene
        login = await self._act(login, Act.SCAN, phone=phone)
        return Scanned(login, await self._app(login.app))

    async def confirm(self, login_id: str, phone: Phone) -> Login:
        """Let the browser in as whoever the directory says `phone` is.

        Raises UnregisteredUser for an unknown person: the browser is notified, the login
        stays scanned for the time to register, and a later confirm works.  For
        somebody blocked it raises UserBlocked, and the login ends denied: nothing
        that they could do would let them in.
        """
        login = await self._scanned_by(login_id, phone)
        if apply(login, Act.CONFIRM, now=self._clock(), phone=phone) is login:
            await self._logins.secure(login)
            return login  # a repeat, which is none of the directory's business
        try:
            subject = await self._directory.find(phone.identity)
        except UnregisteredUser:
            await self._await_registration(login)
            app = await self._app(login.app)
            raise UnregisteredUser(**register_field(app)) from None
        except UserBlocked:
            await self._act(login, Act.DENY, phone=phone)
            raise
        login = await self._act(login, Act.CONFIRM, phone=phone, subject=subject)
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
        await self._publish(login.instance, Notice(UNREGISTERED, login.id))

    async def deny(self, login_id: str, phone: Phone) -> Login:
        login = await self._scanned_by(login_id, phone)
        return await self._act(login, Act.DENY, phone=phone)

    async def redeem(self, login_id: str, secret: str, *, app: str) -> Redeemed:
        """Return the token of a confirmed login to the client with its secret.

        A repeat within `REDELIVERY_LIFETIME` returns the same token, with the same `jti`, `iat` and
        `exp`, from any instance and over any transport: only the client knows whether the
        first answer reached it.  Later repeats raise AlreadyRedeemed.
        """
        before = await self._owned_by(login_id, secret, app)
        login = await self._act(before, Act.REDEEM)
        await self._logins.secure(login)
        token = self._issuer.issue(login)
        if token.expires_in <= 0:
            raise AlreadyRedeemed
        if before.state is State.REDEEMED:
            metrics.REDELIVERIES.inc()
        return Redeemed(login, token)

    async def resume(self, login_id: str, secret: str, *, app: str) -> Login:
        """The login as it stands, its browser from now on at this instance."""
        login = await self._owned_by(login_id, secret, app)
        while True:
            moved = login.moved_to(self._instance)
            if moved is login:
                break
            if await self._change(login, moved, MOVED):
                break
            login = await self._read(login_id)
        return moved.at(self._clock())

    async def cancel(self, login_id: str, secret: str, *, app: str) -> Login:
        login = await self._owned_by(login_id, secret, app)
        return await self._act(login, Act.CANCEL)

    async def abandon(self, login_id: str) -> None:
        """Cancel a login whose own socket has begun another.

        One that is over stays as it is, and one that cannot be reached now ends with time.
        """
        with suppress(BrokerError):
            await self._act(await self._read(login_id), Act.CANCEL)

    async def look(self, login_id: str) -> Login | None:
        """The login as it stands now; None for one that was forgotten."""
        login = await self._logins.get(login_id)
        return None if login is None else login.at(self._clock())

    async def changed(self, known: Mapping[str, int]) -> dict[str, Login | None]:
        """Of the logins in `known` (id: version) those that are another version now, as they stand.

        None for one that is gone.
        """
        changed = await self._logins.changed(known)
        return {name: login and self._at_its_end(login) for name, login in changed.items()}

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

    async def _act(
        self, login: Login, act: Act, *, phone: Phone | None = None, subject: str | None = None
    ) -> Login:
        while True:
            now = self._clock()
            issued_at = self._issuer.issue_time(now) if act is Act.REDEEM else None
            after = apply(login, act, now=now, phone=phone, subject=subject, issued_at=issued_at)
            if after is login:
                return after
            if await self._change(login, after, EVENTS.get(after.state)):
                metrics.logins(after.app, after.state).inc()
                if after.state not in OPEN:
                    self._trail.note(after, now=self._clock())
                    self._give_back(after)
                return after
            login = await self._read(login.id)

    async def _change(self, before: Login, after: Login, event: str | None) -> bool:
        """Store a change and tell the instance where the browser waited until now, if any.

        False where another change was first.
        """
        notice = Notice(event, before.id) if event and before.instance else None
        swapped = await self._logins.swap(before, after, notice)
        if swapped is Swapped.STORED and notice is not None:
            await self._publish(before.instance, notice)
        return swapped is not Swapped.LOST

    def _give_back(self, login: Login) -> None:
        """Return the code of a login to its pool, in the background."""
        if login.lease is None:
            return
        task = spawn("code return", self._codes.give_back(login))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _publish(self, instance: str, notice: Notice) -> None:
        """Send a notice to where the browser waits, if it waits on a socket at all."""
        if not instance:
            return
        try:
            await self._bus.publish(instance, notice)
        except Unavailable as error:
            log.warning(
                "notice not sent",
                login_id=notice.login_id,
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

    async def _scanned_by(self, login_id: str, phone: Phone) -> Login:
        login = await self._read(login_id)
        if login.app != phone.app or not await self._is_of_current_app(login):
            raise UnknownLogin
        return login

    async def _owned_by(self, login_id: str, secret: str, app: str) -> Login:
        login = await self._logins.get(login_id)
        expected = login.secret_hash if login else _hash("")
        if not hmac.compare_digest(expected, _hash(secret)) or login is None or login.app != app:
            raise UnknownLogin
        if not await self._is_of_current_app(login):
            raise UnknownLogin
        self._at_its_end(login)
        return login

    def _at_its_end(self, login: Login) -> Login:
        """The login as it stands now; where time has ended it, that is noted."""
        now = self._clock()
        current = login.at(now)
        if current.state is State.EXPIRED:
            self._trail.note(current, now=now)
        return current


def register_field(app: App) -> dict[str, str]:
    """`register_url` for an answer, where the app has one."""
    return {"register_url": app.register_url} if app.register_url else {}


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
