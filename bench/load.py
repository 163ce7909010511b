"""Logins at a steady rate, whatever became of those before, and a count of what is lost."""

from __future__ import annotations

import asyncio
import gc
import math
import sys
import time
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from typing import NamedTuple, TypeVar

from bench.fleet import Fleet
from bench.socketio import Broken
from bench.targets import Browser, Phone

GIVE_UP = 20.0
"""Seconds after which an act counts as lost."""

LOST = "lost"

AT_ONCE = 32
"""Browsers that are let in together where the rate does not matter."""

LOOKS = 0.02
"""Seconds until a person who sees a code has scanned it, and who has scanned it confirms.
People take longer; but some adapters lose what is said in the moment after `begin`."""

T = TypeVar("T")
R = TypeVar("R")

Act = Callable[[int], Awaitable[float]]
"""What is done again and again, by number; it returns how long its push took, in seconds."""


class Loaded(NamedTuple):
    """What a load has come to.

    latencies: of each act that was done, in seconds.
    lost: those that were not, by reason.
    lag: how late the latest act was begun, in seconds; a large one says that
        the generator had too little of the machine.
    """

    latencies: list[float]
    lost: Counter[str]
    lag: float

    def figures(self) -> dict[str, float]:
        """As they stand in the tables."""
        return {
            "confirm → event p50, ms": 1000 * percentile(self.latencies, 0.5),
            "p99, ms": 1000 * percentile(self.latencies, 0.99),
            "largest start delay, ms": 1000 * self.lag,
            LOST: self.lost.total(),
        }


async def steadily(act: Act, *, rate: float, seconds: float) -> Loaded:
    """Begin `rate` acts a second for so long, and wait for the last of them."""
    with _nothing_to_collect():
        return await _steadily(act, rate, seconds)


@contextmanager
def _nothing_to_collect() -> Iterator[None]:
    """Have Python's collector leave alone what there is: it takes 80 ms for 400 browsers, in
    which answers come and are not seen."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


async def _steadily(act: Act, rate: float, seconds: float) -> Loaded:
    start = time.perf_counter()
    lag = 0.0
    acts = []
    for number in range(round(rate * seconds)):
        due = start + number / rate
        await asyncio.sleep(max(0, due - time.perf_counter()))
        lag = max(lag, time.perf_counter() - due)
        acts.append(asyncio.create_task(_in_time(act(number))))
    ended = await asyncio.gather(*acts, return_exceptions=True)
    done = [end for end in ended if not isinstance(end, BaseException)]
    lost = Counter(
        f"{type(end).__name__}: {end}" for end in ended if isinstance(end, BaseException)
    )
    if lost:
        print(f"lost: {dict(lost)}", file=sys.stderr, flush=True)
    return Loaded(done, lost, lag)


async def eagerly(act: Act, *, at_once: int, seconds: float, least: int = 0) -> Loaded:
    """Have `at_once` acts under way for so long, and for `least` acts, each followed by the next.

    Those that are lost count too.
    """
    end = time.perf_counter() + seconds
    numbers = count()
    done: list[float] = []
    lost: Counter[str] = Counter()

    async def repeat() -> None:
        while time.perf_counter() < end or len(done) + lost.total() < least:
            try:
                done.append(await _in_time(act(next(numbers))))
            except (Broken, OSError, TimeoutError) as error:
                lost[f"{type(error).__name__}: {error}"] += 1

    await asyncio.gather(*(repeat() for _ in range(at_once)))
    return Loaded(done, lost, 0.0)


async def _in_time(act: Awaitable[float]) -> float:
    async with asyncio.timeout(GIVE_UP):
        return await act


class Crowd:
    """The browsers of one run, and a phone that lets them all in, spread evenly over its servers.

    One phone by many connections: a person has only so many sessions.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._candidate = fleet.candidate
        self._urls = fleet.urls
        self._phones: defaultdict[str, deque[Phone]] = defaultdict(deque)
        self._first: Phone | None = None
        self._proving = asyncio.Lock()

    async def log_in(self, number: int) -> float:
        """A whole login: begun at one server, scanned and confirmed at the next, redeemed."""
        browser = await self.waiting(number)
        try:
            await asyncio.sleep(LOOKS)
            await self.scan(browser, number)
            await asyncio.sleep(LOOKS)
            latency = await self.confirm(browser, number)
            await browser.redeem()
        finally:
            browser.close()
        return latency

    async def connected(self, number: int) -> Browser:
        """A browser that has begun nothing yet."""
        return await self._candidate.browser(self._url(number))

    async def waiting(self, number: int) -> Browser:
        """A browser that has begun a login."""
        browser = await self.connected(number)
        try:
            await browser.begin()
        except BaseException:
            browser.close()
            raise
        return browser

    async def scan(self, browser: Browser, number: int) -> None:
        async with self._phone(number) as phone:
            await phone.scan(browser)

    async def confirm(self, browser: Browser, number: int) -> float:
        """Seconds from the phone's request until the browser has heard of it."""
        async with self._phone(number) as phone:
            said = time.perf_counter()  # a loop's own time may be as coarse as a millisecond
            await phone.confirm(browser)
        return await browser.confirmed() - said

    async def gather(self, count: int, *, scanned: bool = False) -> list[Browser]:
        """That many waiting browsers, as fast as they are let in."""

        async def come(number: int) -> Browser:
            browser = await self.waiting(number)
            if scanned:
                await asyncio.sleep(LOOKS)
                await self.scan(browser, number)
            return browser

        return await few_at_once(come, range(count))

    def close(self) -> None:
        for phones in self._phones.values():
            for phone in phones:
                phone.close()

    def _url(self, number: int) -> str:
        return self._urls[number % len(self._urls)]

    @asynccontextmanager
    async def _phone(self, number: int) -> AsyncIterator[Phone]:
        """The phone, at the server beside the one that login `number` began at.

        A connection whose request failed is not asked again.  They take turns: a server
        closes one that says nothing for long.
        """
        url = self._url(number + 1)
        free = self._phones[url]
        phone = free.popleft() if free else await self._connect(url)
        try:
            yield phone
        except BaseException:
            phone.close()
            raise
        free.append(phone)

    async def _connect(self, url: str) -> Phone:
        async with self._proving:
            if self._first is None:
                self._first = await self._candidate.phone(url)
                return self._first
        return await self._first.again(url)


async def few_at_once(act: Callable[[T], Awaitable[R]], what: Iterable[T]) -> list[R]:
    """Do it to each of them, `AT_ONCE` at a time; what came of it, in their order."""
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(this: T) -> R:
        async with limit:
            return await act(this)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(this)) for this in what]
    return [task.result() for task in tasks]


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of all are not above; NaN for none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


def leave(browsers: Iterable[Browser]) -> None:
    for browser in browsers:
        browser.close()
