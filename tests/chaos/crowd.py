"""People who come all the time, and people who sit and wait."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from tests.chaos.browser import Browser, Code
from tests.chaos.ledger import Ledger
from tests.chaos.phone import Phone
from tests.chaos.world import World

SCANS_AFTER = 1.5
CONFIRMS_AFTER = 1.0
"""Seconds that people take at most, so that a fault finds logins in every state."""


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
        """Scan what is on the screen; where it was refused, the fresh code that must come."""
        await self.takes_out_the_phone.wait()
        thinks = random.uniform(0.1, CONFIRMS_AFTER)
        while not await self._phone.let_in(await self._screen(), thinks=thinks):
            pass

    async def _screen(self) -> Code:
        """The latest code that this phone has not tried yet."""
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

    async def move(self) -> None:
        """Every browser that still waits loses its socket."""
        await asyncio.gather(*(person.browser.move() for person in self._people))

    async def redeem_again(self) -> None:
        for person in self._people:
            await person.browser.redeem_again()

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
