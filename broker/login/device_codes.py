"""User codes of logins, and the login that a person finds by typing one."""

from __future__ import annotations

from typing import NamedTuple

from broker.apps.errors import UnknownApp
from broker.apps.model import App
from broker.apps.ports import Apps
from broker.errors import Unavailable
from broker.infrastructure.clock import Clock
from broker.login.codes import CodeSource
from broker.login.errors import UnknownScene
from broker.login.limits import UserCodeLimit
from broker.login.match import MatchKind
from broker.login.model import Login, State
from broker.login.ports import UserCodes
from broker.login.reader import LoginReader
from broker.login.scanner import needed_match
from broker.login.user_code import (
    ATTEMPTS,
    derive_user_code,
    format_user_code,
    parse_user_code,
)


class TypedLogin(NamedTuple):
    """The login of a typed code.

    code_url: the code as an image URL; empty once it was scanned.
    open_url: opens the phone app at the login; None if there is no such URL.
    match: the match that the login needs; a policy may add one.
    provider: the provider of its app.
    is_unregistered: whether the person has to register, and to confirm again.
    register_url: where; None if people cannot register, and in other states.
    """

    state: State
    provider: str
    code_url: str = ""
    open_url: str | None = None
    match: MatchKind | None = None
    is_unregistered: bool = False
    register_url: str | None = None


class DeviceCodes:
    """Issues user codes, and finds logins by them."""

    def __init__(
        self,
        *,
        user_codes: UserCodes,
        reader: LoginReader,
        codes: CodeSource,
        apps: Apps,
        clock: Clock,
    ) -> None:
        self._user_codes = user_codes
        self._reader = reader
        self._codes = codes
        self._apps = apps
        self._clock = clock
        self._limit = UserCodeLimit()

    async def issue(self, login: Login) -> str:
        """Return the user code of a login, the same at each call. Raises Unavailable."""
        for attempt in range(ATTEMPTS):
            code = derive_user_code(login.secret_hash, attempt)
            if await self._user_codes.claim(code, login):
                return format_user_code(code)
        raise Unavailable("no user code is free; try again")

    async def find(self, typed: str, *, address: str) -> TypedLogin:
        """Return the login of a code that a person at `address` typed.

        Raises UnknownScene, RateLimited after many unknown codes, or the errors of drawing.
        """
        code = parse_user_code(typed)
        if code is None:
            raise UnknownScene  # not counted: it cannot be a guess
        with self._limit.counting(address):
            login = await self._reader.require_by_user_code(code)
        app = self._apps.get(login.app)
        if app is None:
            raise UnknownApp(login.app)
        login = login.at(self._clock())
        if login.awaits_registration:
            await self._user_codes.extend(code, login)
            return TypedLogin(
                login.state, app.provider, is_unregistered=True, register_url=app.register_url
            )
        if login.state is not State.PENDING:
            return TypedLogin(login.state, app.provider)
        return await self._pending_login(login, app)

    async def _pending_login(self, login: Login, app: App) -> TypedLogin:
        return TypedLogin(
            login.state,
            app.provider,
            await self._codes.url_of(login, app),
            await self._codes.open_url_of(login.scene, app),
            needed_match(app, is_challenged=login.is_match_requested),
        )
