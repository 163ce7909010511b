"""People who come all the time, and people who sit and wait."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

import aiohttp

from tests.chaos.browser import Browser, Code
from tests.chaos.ledger import Ledger
from tests.chaos.phone import Phone
from tests.chaos.world import World

SCANS_AFTER = 1.5
CONFIRMS_AFTER = 1.0
"""Seconds that people take at most, so that a fault finds logins in every state."""

LOOKS_AGAIN_AFTER = 0.5
"""Seconds until somebody who was refused scans the same code again."""


class Person:
    """Somebody with a browser and a phone.

    takes_out_the_phone: set when the person goes on; until then the browser just waits.
    """

    def __init__(self, browser: Browser, phone: Phone) -> None:
        self.browser = browser
        self.takes_out_the_phone = asyncio.Event()
        self._phone = phone

    async def log_in(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.browser.wait())
            group.create_task(self._let_in())

    async def _let_in(self) -> None:
        """Scan what is on the screen, until it is confirmed."""
        await self.takes_out_the_phone.wait()
        thinks = random.uniform(0.1, CONFIRMS_AFTER)
        code = await self.browser.codes.get()
        while not await self._phone.let_in(code, thinks=thinks):
            code = await self._look_again(code)

    async def _look_again(self, code: Code) -> Code:
        """What is on the screen after a refusal: a fresh code that comes soon, or still `code`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOKS_AGAIN_AFTER):
                code = await self.browser.codes.get()
        while not self.browser.codes.empty():
            code = self.browser.codes.get_nowait()
        return code


class Crowd:
    def __init__(self, http: aiohttp.ClientSession, world: World, ledger: Ledger) -> None:
        self.waiting: list[Person] = []
        self.ledger = ledger
        self._http = http
        self._world = world
        self._tasks: set[asyncio.Task[None]] = set()
        self._people: list[Person] = []
        self._cut_off: set[Browser] = set()

    def __len__(self) -> int:
        """How many are not done yet."""
        return sum(not task.done() for task in self._tasks)

    async def come(self, rate: float) -> None:
        """People come until this is cancelled, `rate` a second on average."""
        while True:
            person = self._person()
            asyncio.get_running_loop().call_later(
                random.uniform(0.1, SCANS_AFTER), person.takes_out_the_phone.set
            )
            await asyncio.sleep(random.expovariate(rate))

    def sit_down(self, count: int) -> None:
        """People whose browsers have a code, and who do nothing until `stand_up`."""
        self.waiting += [self._person() for _ in range(count)]

    def stand_up(self) -> None:
        for person in self.waiting:
            person.takes_out_the_phone.set()

    async def finish(self, within: float) -> None:
        """Wait until everybody is in; raises what went wrong in anybody's doing."""
        done, _ = await asyncio.wait(self._tasks, timeout=within)
        for task in done:
            task.result()

    async def go_home(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def move(self) -> None:
        """All browsers lose their sockets."""
        for person in self._people:
            person.browser.move()

    def cut_off_redeeming(self) -> None:
        """Browsers that wait for their token's answer lose their sockets, each once."""
        for person in self._people:
            if person.browser.redeems and person.browser not in self._cut_off:
                self._cut_off.add(person.browser)
                person.browser.move()

    async def redeem_again(self) -> None:
        """Whoever has a token asks once more."""
        for person in self._people:
            code = person.browser.code
            if code is not None and self.ledger.entries[code.login_id].tokens:
                await person.browser.redeem_again(code)

    def _person(self) -> Person:
        browser = Browser(self._http, self._world, self.ledger)
        phone = Phone(self._http, self._world, self.ledger, browser, f"person-{len(self._people)}")
        person = Person(browser, phone)
        self._people.append(person)
        self._tasks.add(asyncio.create_task(person.log_in()))
        return person


@asynccontextmanager
async def gathered(world: World, ledger: Ledger) -> AsyncIterator[Crowd]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        crowd = Crowd(http, world, ledger)
        try:
            yield crowd
        finally:
            await crowd.go_home()


Fault = Callable[..., AbstractAsyncContextManager[Crowd]]
