"""People who sign in with OpenID Connect continuously: browser, phone and app."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple, TypeVar

import aiohttp

from tests.chaos.ledger import Ledger
from tests.chaos.load import CONFIRM_DELAY_MAX, Load
from tests.chaos.phone import Phone
from tests.chaos.sign_in_steps import SignInRefused, Steps, Unanswered, repeated
from tests.chaos.world import Instance, World

T = TypeVar("T")


class Grant(NamedTuple):
    """A finished sign-in, with its code and its current refresh token."""

    steps: Steps
    login_id: str
    code: str
    refresh_token: str


class Person:
    """A person with a browser and a phone. Each request goes to any serving instance.

    at: the instance of the last request; the phone prefers another one.
    may_scan: set when the phone may scan.
    signed_out: errors of refresh tokens that should still work.
    """

    def __init__(
        self, http: aiohttp.ClientSession, secret: str, world: World, ledger: Ledger, name: str
    ) -> None:
        self.at: Instance | None = None
        self.may_scan = asyncio.Event()
        self.signed_out: list[str] = []
        self._grant: Grant | None = None
        self._http = http
        self._secret = secret
        self._world = world
        self._ledger = ledger
        self._phone = Phone(http, world, ledger, self, name)

    async def log_in(self) -> None:
        """Begin again until a sign-in has ended with tokens."""
        while self._grant is None:
            try:
                self._grant = await self._attempt()
            except SignInRefused as refused:
                self._ledger.add_refusal("sign-in", str(refused))

    async def _attempt(self) -> Grant:
        steps = Steps(self._http, self._secret)
        login = await self._anywhere(steps.begin)
        self._ledger.add_login(login.login_id)
        await self.may_scan.wait()
        delay = random.uniform(0.1, CONFIRM_DELAY_MAX)
        if not await self._phone.confirm_code(login, delay=delay):
            raise SignInRefused("the phone was refused")
        code = await self._anywhere(steps.submit)
        tokens = await self._anywhere(lambda url: steps.exchange(url, code))
        if "id_token" not in tokens:
            raise SignInRefused(f"exchange: {tokens}")
        self._ledger.add_token(login.login_id, tokens["access_token"])
        token = await self._refresh(steps, tokens["refresh_token"])
        return Grant(steps, login.login_id, code, token)

    async def use_again(self) -> None:
        """Refresh again, and then exchange the code a second time."""
        if self._grant is None:
            return
        steps, login_id, code, token = self._grant
        with suppress(SignInRefused):
            await self._refresh(steps, token)
        tokens = await self._anywhere(lambda url: steps.exchange(url, code))
        if "access_token" in tokens:
            self._ledger.add_token(login_id, tokens["access_token"])

    async def _refresh(self, steps: Steps, token: str) -> str:
        """Return the next refresh token."""
        answer = await self._anywhere(lambda url: steps.refresh(url, token))
        if "error" in answer:
            self.signed_out.append(answer["error"])
            raise SignInRefused(f"refresh: {answer}")
        return str(answer["refresh_token"])

    async def _anywhere(self, act: Callable[[str], Awaitable[T]]) -> T:
        async def once() -> T:
            self.at = self._world.any()
            if self.at is None:
                raise Unanswered
            return await act(self.at.url)

        return await repeated(once)


class SignIns(Load[Person]):
    """People who sign in.  secret: of the app."""

    def __init__(
        self, http: aiohttp.ClientSession, world: World, ledger: Ledger, secret: str
    ) -> None:
        super().__init__(http, world, ledger)
        self._secret = secret

    @property
    def signed_out(self) -> list[str]:
        """The errors of refresh tokens that should still work."""
        return [error for person in self._users for error in person.signed_out]

    async def redeem_again(self) -> None:
        for person in self._users:
            await person.use_again()

    def _new_user(self, name: str) -> Person:
        return Person(self._http, self._secret, self._world, self.ledger, name)


@asynccontextmanager
async def open_sign_ins(world: World, ledger: Ledger, *, secret: str) -> AsyncIterator[SignIns]:
    connector = aiohttp.TCPConnector(limit=0)
    jar = aiohttp.DummyCookieJar()
    async with aiohttp.ClientSession(connector=connector, cookie_jar=jar) as http:
        sign_ins = SignIns(http, world, ledger, secret)
        try:
            yield sign_ins
        finally:
            await sign_ins.cancel_all()
