"""Users who log in continuously, and users who wait for the end of the fault."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Generic, Protocol, TypeVar

import aiohttp

from tests.chaos.browser import Browser, Code
from tests.chaos.ledger import Ledger
from tests.chaos.phone import Phone
from tests.chaos.world import World
from tests.support.waiting import eventually

SCAN_DELAY_MAX = 1.5
CONFIRM_DELAY_MAX = 1.0
"""Maximum delays of a user in seconds; a fault meets logins in every state."""

RESCAN_DELAY = 0.5
"""Seconds until a refused user scans the same code again."""

USERS_MAX = 120
"""Users who log in at a time. The longest fault needs fewer on a machine that keeps the rate."""


class User:
    """A user with a browser and a phone.

    may_scan: set when the phone may scan. The browser waits until then.
    """

    def __init__(self, browser: Browser, phone: Phone) -> None:
        self.browser = browser
        self.may_scan = asyncio.Event()
        self._phone = phone

    async def log_in(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.browser.wait())
            group.create_task(self._confirm_code())

    async def _confirm_code(self) -> None:
        """Scan the current code until a login is confirmed."""
        await self.may_scan.wait()
        delay = random.uniform(0.1, CONFIRM_DELAY_MAX)
        code = await self.browser.codes.get()
        while not await self._phone.confirm_code(code, delay=delay):
            code = await self._next_code(code)

    async def _next_code(self, code: Code) -> Code:
        """Return the code that is shown after a refusal: a new one, or still `code`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(RESCAN_DELAY):
                code = await self.browser.codes.get()
        while not self.browser.codes.empty():
            code = self.browser.codes.get_nowait()
        return code


class Scanner(Protocol):
    """A user whose phone waits for `may_scan`."""

    @property
    def may_scan(self) -> asyncio.Event: ...

    async def log_in(self) -> None: ...


S = TypeVar("S", bound=Scanner)


class Load(Generic[S]):
    """Users who log in at the same time."""

    def __init__(self, http: aiohttp.ClientSession, world: World, ledger: Ledger) -> None:
        self.waiting: list[S] = []
        self.ledger = ledger
        self._http = http
        self._world = world
        self._tasks: set[asyncio.Task[None]] = set()
        self._users: list[S] = []

    def __len__(self) -> int:
        """Return the number of users who are not logged in."""
        return sum(not task.done() for task in self._tasks)

    async def add_continuously(self, rate: float) -> None:
        """Add users until this is cancelled, `rate` per second on average.

        It adds none while `USERS_MAX` log in.
        """
        while True:
            if len(self) < USERS_MAX:
                user = self._add_user()
                asyncio.get_running_loop().call_later(
                    random.uniform(0.1, SCAN_DELAY_MAX), user.may_scan.set
                )
            await asyncio.sleep(random.expovariate(rate))

    def add_waiting(self, count: int) -> None:
        """Add users whose browsers get a code, and who scan after `release_waiting`."""
        self.waiting += [self._add_user() for _ in range(count)]

    def release_waiting(self) -> None:
        for user in self.waiting:
            user.may_scan.set()

    async def until_logged_in(self, count: int) -> None:
        """Wait until `count` more users are logged in. Raises the exception of a user."""
        before = self._logged_in()
        await eventually(lambda: self._logged_in() >= before + count)

    def _logged_in(self) -> int:
        """Return the number of users who are logged in. Raises the exception of a user."""
        done = [task for task in self._tasks if task.done()]
        for task in done:
            task.result()
        return len(done)

    async def finish(self, within: float) -> None:
        """Wait until all users are logged in. Raises the exception of a user."""
        done, _ = await asyncio.wait(self._tasks, timeout=within)
        for task in done:
            task.result()

    async def cancel_all(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def redeem_again(self) -> None:
        """Let each user who has a token request it again."""
        raise NotImplementedError

    def _new_user(self, name: str) -> S:
        raise NotImplementedError

    def _add_user(self) -> S:
        user = self._new_user(f"person-{len(self._users)}")
        self._users.append(user)
        self._tasks.add(asyncio.create_task(user.log_in()))
        return user


class Users(Load[User]):
    """Users with the widget in their browser."""

    def __init__(self, http: aiohttp.ClientSession, world: World, ledger: Ledger) -> None:
        super().__init__(http, world, ledger)
        self._disconnected: set[Browser] = set()

    def move(self) -> None:
        """Disconnect all browsers."""
        for user in self._users:
            user.browser.move()

    def disconnect_redeeming(self) -> None:
        """Disconnect each browser once while it waits for its token."""
        for user in self._users:
            if user.browser.is_redeeming and user.browser not in self._disconnected:
                self._disconnected.add(user.browser)
                user.browser.move()

    async def redeem_again(self) -> None:
        for user in self._users:
            code = user.browser.code
            if code is not None and self.ledger.entries[code.login_id].tokens:
                await user.browser.redeem_again(code)

    def _new_user(self, name: str) -> User:
        browser = Browser(self._http, self._world, self.ledger)
        return User(browser, Phone(self._http, self._world, self.ledger, browser, name))


@asynccontextmanager
async def open_users(world: World, ledger: Ledger) -> AsyncIterator[Users]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        users = Users(http, world, ledger)
        try:
            yield users
        finally:
            await users.cancel_all()


Fault = Callable[..., AbstractAsyncContextManager[Any]]
