"""One login, start to finish.

Each act is: read, `apply`, `swap`, `publish`.  The change is stored before
anybody is told; a notice that could not be sent is logged and the act stands,
for the browser finds the truth by asking.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

import structlog

from broker.bus import Bus, Notice
from broker.directories import Directory
from broker.errors import (
    BrokerError,
    Unavailable,
    UnknownApp,
    UnknownLogin,
    UnknownScene,
    UnregisteredUser,
)
from broker.login import Act, Browser, Login, Phone, State, apply
from broker.metrics import LOGINS
from broker.providers import Picture, Provider
from broker.records import App, Apps
from broker.state import Clock, Logins
from broker.tokens import Issuer, Token

log = structlog.get_logger()

EVENTS: Mapping[State, str] = {
    State.SCANNED: "login-scanned",
    State.CONFIRMED: "login-confirmed",
    State.DENIED: "login-denied",
    State.EXPIRED: "login-expired",
}
"""What the browser hears when its login has come to a state."""

UNREGISTERED = "login-unregistered"
"""What it hears when the directory does not know who confirmed: the login stays scanned."""


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
    """instance: this process's name on the bus.  lifetime: of a code, in seconds."""

    def __init__(
        self,
        *,
        logins: Logins,
        bus: Bus,
        apps: Apps,
        provider: Provider,
        directory: Directory,
        issuer: Issuer,
        clock: Clock,
        instance: str,
        lifetime: int,
    ) -> None:
        self._logins = logins
        self._bus = bus
        self._apps = apps
        self._provider = provider
        self._directory = directory
        self._issuer = issuer
        self._clock = clock
        self._instance = instance
        self._lifetime = lifetime

    async def begin(self, app_id: str, browser: Browser, *, waits_here: bool) -> Begun:
        """A fresh login with its code.

        `waits_here`: the browser is on a socket of this instance and wants to be told.
        Raises UnknownApp, or Unavailable when no code can be drawn or kept.
        """
        app = await self._app(app_id)
        now = self._clock()
        secret = secrets.token_urlsafe(32)
        login = Login(
            id=secrets.token_urlsafe(16),
            scene=secrets.token_urlsafe(24)[: self._provider.scene_max],
            secret_hash=_hash(secret),
            app=app.id,
            browser=browser,
            began_at=now,
            expires_at=now + self._lifetime,
            instance=self._instance if waits_here else "",
        )
        picture = await self._provider.draw(login.scene)
        await self._logins.add(login)
        LOGINS.labels(login.app, login.state).inc()
        return Begun(login, secret, picture.data_url())

    async def scan(self, scene: str, phone: Phone) -> Scanned:
        """Take the login under `scene` for `phone`; nobody else can confirm it from then on."""
        login = await self._logins.by_scene(scene)
        if login is None or login.app != phone.app:
            raise UnknownScene
        login = await self._act(login, Act.SCAN, phone=phone)
        return Scanned(login, await self._app(login.app))

    async def confirm(self, login_id: str, phone: Phone) -> Login:
        """Let the browser in as whoever the directory says `phone` is.

        Raises UnregisteredUser for somebody unknown: the browser is told, the
        login stays scanned, and confirming again after registering works.
        """
        login = await self._scanned_by(login_id, phone)
        if apply(login, Act.CONFIRM, now=self._clock(), phone=phone) is login:
            return login  # a repeat, which is none of the directory's business
        try:
            subject = await self._directory.find(phone.identity)
        except UnregisteredUser:
            # For whoever polls.  Where another act came first, that is what they hear.
            await self._logins.swap(login, login.by_a_stranger())
            await self._tell(login, UNREGISTERED)
            app = await self._app(login.app)
            raise UnregisteredUser(**register_field(app)) from None
        return await self._act(login, Act.CONFIRM, phone=phone, subject=subject)

    async def deny(self, login_id: str, phone: Phone) -> Login:
        login = await self._scanned_by(login_id, phone)
        return await self._act(login, Act.DENY, phone=phone)

    async def redeem(self, login_id: str, secret: str, *, app: str) -> Redeemed:
        """Hand the token over, once, to whoever shows the secret."""
        login = await self._owned_by(login_id, secret, app)
        while True:
            now = self._clock()
            after = apply(login, Act.REDEEM, now=now)
            token = self._issuer.issue(after, now=now)  # first: a swap cannot be taken back
            if await self._logins.swap(login, after):
                LOGINS.labels(after.app, after.state).inc()
                return Redeemed(after, token)
            login = await self._read(login_id)

    async def resume(self, login_id: str, secret: str, *, app: str) -> Login:
        """The login as it stands, its browser from now on at this instance."""
        login = await self._owned_by(login_id, secret, app)
        while True:
            moved = login.moved_to(self._instance)
            if moved is login or await self._logins.swap(login, moved):
                return moved.at(self._clock())
            login = await self._read(login_id)

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

    async def redraw(self, scene: str) -> Picture:
        """The code of a login that can still be scanned, drawn again; raises UnknownScene."""
        login = await self._logins.by_scene(scene)
        if login is None or login.at(self._clock()).state is not State.PENDING:
            raise UnknownScene
        return await self._provider.draw(scene)

    async def _act(
        self, login: Login, act: Act, *, phone: Phone | None = None, subject: str | None = None
    ) -> Login:
        while True:
            after = apply(login, act, now=self._clock(), phone=phone, subject=subject)
            if after is login:
                return after
            if await self._logins.swap(login, after):
                LOGINS.labels(after.app, after.state).inc()
                await self._tell(after, EVENTS.get(after.state))
                return after
            login = await self._read(login.id)

    async def _tell(self, login: Login, event: str | None) -> None:
        if event is None or not login.instance:
            return
        try:
            await self._bus.publish(login.instance, Notice(event, login.id))
        except Unavailable as error:
            log.warning("notice not sent", login_id=login.id, notice=event, reason=str(error))

    async def _app(self, app_id: str) -> App:
        app = await self._apps.get(app_id)
        if app is None:
            raise UnknownApp
        return app

    async def _read(self, login_id: str) -> Login:
        login = await self._logins.get(login_id)
        if login is None:
            raise UnknownLogin
        return login

    async def _scanned_by(self, login_id: str, phone: Phone) -> Login:
        login = await self._read(login_id)
        if login.app != phone.app:
            raise UnknownLogin
        return login

    async def _owned_by(self, login_id: str, secret: str, app: str) -> Login:
        login = await self._logins.get(login_id)
        expected = login.secret_hash if login else _hash("")
        if not hmac.compare_digest(expected, _hash(secret)) or login is None or login.app != app:
            raise UnknownLogin
        return login


def register_field(app: App) -> dict[str, str]:
    """`register_url` for an answer, where the app has one."""
    return {"register_url": app.register_url} if app.register_url else {}


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
