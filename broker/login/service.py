"""The acts of a login, from begin to confirm, deny or cancel.

Each act reads the login, applies the rule (`model.apply`), stores the result by
compare-and-set and sends a notice to the browser's instance.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import NamedTuple

from broker.apps.errors import UnknownApp
from broker.apps.model import App
from broker.apps.ports import Apps
from broker.errors import BrokerError, InvalidRequest
from broker.identity.errors import UnregisteredUser, UserBlocked
from broker.identity.model import Phone, UserProfile
from broker.identity.ports import Directory
from broker.infrastructure.clock import Clock
from broker.infrastructure.coordination import Notice
from broker.infrastructure.sharding import shard_of
from broker.login.browser_fields import register_url_field
from broker.login.codes import CodeSource, LoginCode
from broker.login.errors import MatchRequired, WrongMatch
from broker.login.events import MOVED_EVENT, UNREGISTERED_EVENT
from broker.login.limits import MatchLimit
from broker.login.match import draw_digits
from broker.login.metrics import WRONG_ANSWERS
from broker.login.model import OPEN, Act, Browser, Login, Reason, State
from broker.login.networks import check_network
from broker.login.ports import LoginRequests, LoginStore, RequestedLogin
from broker.login.reader import LoginReader, hash_secret
from broker.login.rules import WRONG_ANSWER_STATES, apply, next_state
from broker.login.writer import LoginWriter


class NewLogin(NamedTuple):
    """A new login.

    secret: for its browser only.
    code_url: the code as an image URL.
    open_url: opens the phone app at the login; None if there is no such URL.
    """

    login: Login
    secret: str
    code_url: str
    app: App
    open_url: str | None


class Handshake(NamedTuple):
    """Facts about a browser that begins a login, which are stored for the phone and the policy.

    origin: of its page; empty for a device.
    known: keys of the identities that use the browser; None if that was not looked up.
    """

    origin: str = ""
    known: tuple[str, ...] | None = None


NO_HANDSHAKE = Handshake()


class LoginService:
    """The acts of browsers and phones, except `scan` (`scanner.py`) and `redeem` (`delivery.py`).

    instance: the name of this process on the bus.
    lifetime: seconds for which a code is valid, unless the app sets its own lifetime.
    register_lifetime: seconds that an unregistered user has to register and confirm again.
    """

    def __init__(
        self,
        *,
        logins: LoginStore,
        reader: LoginReader,
        writer: LoginWriter,
        apps: Apps,
        codes: CodeSource,
        directory: Directory,
        requests: LoginRequests,
        match_limit: MatchLimit,
        clock: Clock,
        instance: str,
        lifetime: int,
        register_lifetime: int,
    ) -> None:
        self._logins = logins
        self._reader = reader
        self._writer = writer
        self._apps = apps
        self._codes = codes
        self._directory = directory
        self._requests = requests
        self._match_limit = match_limit
        self._clock = clock
        self._instance = instance
        self._lifetime = lifetime
        self._register_lifetime = register_lifetime

    async def close(self) -> None:
        """Wait a few seconds for pending code returns."""
        await self._writer.close()

    async def begin(
        self,
        app_id: str,
        browser: Browser,
        *,
        has_socket: bool,
        incarnation: str | None = None,
        request: str = "",
        scope: tuple[str, ...] | None = None,
        handshake: Handshake = NO_HANDSHAKE,
    ) -> NewLogin:
        """Create a login with its code.

        has_socket: whether the browser has a socket at this instance and receives notices.
        incarnation: of the app for which the browser was admitted, if that was earlier.
        request: the authorization request that the login is for. Its scopes replace `scope`.
        scope: the scopes that the phone shows; None to show those of the app.
        Raises UnknownApp, NetworkNotAllowed, InvalidRequest for an unknown request, or Unavailable
        if the code cannot be drawn or stored.
        """
        app = self._admit(app_id, incarnation, browser)
        requested = await self._find_request(request, app) if request else RequestedLogin(scope)
        now = self._clock()
        expires_at = now + (app.login_lifetime or self._lifetime)
        code = await self._acquire_code(app, browser, expires_at, has_socket)
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
            request=request,
            scope=requested.scope,
            is_match_requested=requested.needs_match,
            origin=handshake.origin,
            known=handshake.known,
        )
        return await self._start(login, secret, code, app)

    async def _acquire_code(
        self, app: App, browser: Browser, expires_at: float, has_socket: bool
    ) -> LoginCode:
        return await self._codes.acquire(
            app, until=expires_at, address=browser.ip, is_shown_again=not has_socket
        )

    async def _start(self, login: Login, secret: str, code: LoginCode, app: App) -> NewLogin:
        open_url = await self._codes.open_url_of(login.scene, app)
        await self._logins.add(login)
        self._writer.announce(login)
        # Without a wait from here on: a change is noticed only if the lobby knows the login.
        return NewLogin(login, secret, code.url, app, open_url)

    async def confirm(self, login_id: str, phone: Phone, answer: str | None = None) -> Login:
        """Confirm the login as the subject that the directory returns for `phone`.

        A login with a match by code stays scanned, gets its digits and waits for `prove`.

        answer: the number that the person chose, for a login with a match by number.
        Raises UnregisteredUser for a user whom the directory does not know. The browser is
        notified, the login stays scanned while the user can register, and a later confirm
        succeeds. Raises UserBlocked for a blocked user; the login is denied then, because
        no act of the user can make it succeed. Raises MatchRequired without a number that the
        login needs, and WrongMatch for a wrong one; the login is denied then. Raises
        RateLimited for a person with many wrong answers.
        """
        login = await self._reader.require_in_app(login_id, phone)
        # The directory is not called for a repeat or for an act that is refused.
        if next_state(login, Act.CONFIRM, now=self._clock(), phone=phone) is not None:
            if login.match is not None:
                self._match_limit.check(phone)
            await self._check_number(login, phone, answer)
            profile = await self._require_profile(login, phone)
            login = await self._writer.apply_and_store(
                login,
                Act.CONFIRM,
                phone=phone,
                profile=profile,
                name=self._reader.granted_name(login, profile),
                answer=answer or "",
                digits=draw_digits() if login.match and login.match.kind == "code" else "",
            )
        await self._logins.secure(login)
        return login

    async def require(self, login_id: str, secret: str, *, app: str) -> Login:
        """Return the login of a browser as it is stored. Raises UnknownLogin."""
        return await self._reader.require_by_secret(login_id, secret, app=app)

    async def prove(self, login_id: str, secret: str, answer: str, *, app: str) -> Login:
        """Confirm the login by the digits that the phone shows, or count a wrong answer.

        Raises NotAllowed unless the phone has confirmed a login with a match by code, and
        RateLimited for a person with many wrong answers.
        """
        login = await self._reader.require_by_secret(login_id, secret, app=app)
        self._reader.record_if_expired(login)
        if login.shows_digits and login.phone is not None:
            self._match_limit.check(login.phone)
        login = await self._writer.apply_and_store(login, Act.PROVE, answer=answer)
        if login.state in WRONG_ANSWER_STATES:
            self._count_wrong_answer(login)
        await self._logins.secure(login)
        return login

    async def deny(self, login_id: str, phone: Phone) -> Login:
        login = await self._reader.require_in_app(login_id, phone)
        return await self._writer.apply_and_store(login, Act.DENY, phone=phone)

    async def resume(self, login_id: str, secret: str, *, app: str) -> Login:
        """Move the login's browser to this instance. Returns the login in its present state."""
        login = await self._reader.require_by_secret(login_id, secret, app=app)
        self._reader.record_if_expired(login)
        while True:
            moved = login.on_instance(self._instance)
            if moved is login or await self._writer.swap_and_publish(login, moved, MOVED_EVENT):
                return moved.at(self._clock())
            login = await self._reader.require(login_id)

    async def cancel(self, login_id: str, secret: str, *, app: str) -> Login:
        login = await self._reader.require_by_secret(login_id, secret, app=app)
        self._reader.record_if_expired(login)
        return await self._writer.apply_and_store(login, Act.CANCEL)

    async def abandon(self, login_id: str) -> None:
        """Cancel a login whose socket has begun another one.

        A login that is finished does not change. One that cannot be cancelled now expires.
        """
        with suppress(BrokerError):
            await self._writer.apply_and_store(await self._reader.require(login_id), Act.CANCEL)

    async def end(self, login_id: str) -> bool:
        """Cancel a login for an operator; its browser is notified. Return whether it was open."""
        login = await self._reader.require(login_id)
        is_open = login.at(self._clock()).state in OPEN
        if is_open:
            await self._writer.change_and_store(login, self._end)
        return is_open

    def _end(self, login: Login) -> Login:
        after = apply(login, Act.CANCEL, now=self._clock())
        return after if after is login else after.with_reason(Reason.ADMIN)

    async def get(self, login_id: str) -> Login | None:
        """Return the login in its present state, or None if it is not stored."""
        return await self._reader.get(login_id)

    def _admit(self, app_id: str, incarnation: str | None, browser: Browser) -> App:
        app = self._require_app(app_id)
        if incarnation not in (None, app.incarnation):
            raise UnknownApp(app_id)
        check_network(app.networks, browser.ip)
        return app

    async def _find_request(self, request: str, app: App) -> RequestedLogin:
        requested = await self._requests.find(request, app)
        if requested is None:
            raise InvalidRequest("request: unknown, used or expired; start again at the site")
        return requested

    async def _check_number(self, login: Login, phone: Phone, answer: str | None) -> None:
        """Deny the login and raise WrongMatch if its match by number has another answer."""
        if login.match is None or login.match.kind != "number":
            return
        if answer is None:
            raise MatchRequired
        if not login.match.is_right(answer):
            self._count_wrong_answer(login)
            await self._writer.apply_and_store(login, Act.CONFIRM, phone=phone, answer=answer)
            raise WrongMatch

    def _count_wrong_answer(self, login: Login) -> None:
        if login.match is not None and login.phone is not None:
            WRONG_ANSWERS.labels(login.app, login.match.kind).inc()
            self._match_limit.count(login.phone, login.match.kind)

    async def _require_profile(self, login: Login, phone: Phone) -> UserProfile:
        """Return the user of `phone`. Raises UnregisteredUser or UserBlocked, see `confirm`."""
        try:
            return await self._directory.find(phone.identity)
        except UnregisteredUser:
            await self._await_registration(login)
            app = self._require_app(login.app)
            raise UnregisteredUser(**register_url_field(app)) from None
        except UserBlocked:
            await self._writer.apply_and_store(login, Act.DENY, phone=phone, is_blocked=True)
            raise

    async def _await_registration(self, login: Login) -> None:
        """Extend the login once and notify its browser, unless the login has left `scanned`.

        A code from the pool is returned, because no phone needs to scan it again. Its
        cooldown lasts as long as the extended login is stored.
        """
        while not login.unregistered:
            until = self._clock() + self._register_lifetime
            extended = login.awaiting_registration(until=until)
            if await self._writer.swap_and_publish(login, extended, UNREGISTERED_EVENT):
                self._writer.return_code(extended)
                return
            login = await self._reader.require(login.id)
            if login.state is not State.SCANNED:
                return
        await self._writer.publish(login.instance, Notice(UNREGISTERED_EVENT, login.id))

    def _require_app(self, app_id: str) -> App:
        app = self._apps.get(app_id)
        if app is None:
            raise UnknownApp(app_id)
        return app
