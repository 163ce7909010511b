"""The load generator: logins at a steady rate or at a concurrency. It counts failures."""

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
from typing import NamedTuple, Protocol, TypeVar

from bench.fleet import Fleet
from bench.socketio import ProtocolError
from bench.targets import Browser, Phone

ACT_TIMEOUT = 20.0
"""Seconds after which an act counts as lost."""

LOST = "lost"

CONCURRENCY = 32
"""Browsers that connect at the same time, if the rate does not matter."""

REACTION_DELAY = 0.02
"""Seconds between begin and scan, and between scan and confirm.

Persons are slower. The delay is needed because some adapters lose messages right after `begin`."""

T = TypeVar("T")
R = TypeVar("R")

Act = Callable[[int], Awaitable[float]]
"""The repeated operation. It gets a number and returns the seconds until its push."""


class LoadResult(NamedTuple):
    """The result of a load.

    latencies: seconds of each completed act.
    lost: failed acts by reason.
    lag: the largest start delay of an act, in seconds. A large value means that
        the load generator had too little CPU.
    """

    latencies: list[float]
    lost: Counter[str]
    lag: float

    def figures(self) -> dict[str, float]:
        """The figures for the tables."""
        return {
            "confirm → event p50, ms": 1000 * percentile(self.latencies, 0.5),
            "p99, ms": 1000 * percentile(self.latencies, 0.99),
            "largest start delay, ms": 1000 * self.lag,
            LOST: self.lost.total(),
        }


async def run_at_rate(act: Act, *, rate: float, seconds: float) -> LoadResult:
    """Start `rate` acts per second for `seconds`, then wait until all have ended."""
    with _paused_collector():
        return await _run_at_rate(act, rate, seconds)


@contextmanager
def _paused_collector() -> Iterator[None]:
    """Exclude existing objects from garbage collection.

    A collection takes 80 ms with 400 browsers, which would delay the handling of answers.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


async def _run_at_rate(act: Act, rate: float, seconds: float) -> LoadResult:
    start = time.perf_counter()
    lag = 0.0
    acts = []
    for number in range(round(rate * seconds)):
        due = start + number / rate
        await asyncio.sleep(max(0, due - time.perf_counter()))
        lag = max(lag, time.perf_counter() - due)
        acts.append(asyncio.create_task(_with_timeout(act(number))))
    ended = await asyncio.gather(*acts, return_exceptions=True)
    done = [end for end in ended if not isinstance(end, BaseException)]
    lost = Counter(
        f"{type(end).__name__}: {end}" for end in ended if isinstance(end, BaseException)
    )
    if lost:
        print(f"lost: {dict(lost)}", file=sys.stderr, flush=True)
    return LoadResult(done, lost, lag)


async def run_concurrently(
    act: Act, *, concurrency: int, seconds: float, min_acts: int = 0
) -> LoadResult:
    """Run acts for `seconds`, `concurrency` at a time, and at least `min_acts` of them.

    Lost acts count too.
    """
    end = time.perf_counter() + seconds
    numbers = count()
    done: list[float] = []
    lost: Counter[str] = Counter()

    async def repeat() -> None:
        while time.perf_counter() < end or len(done) + lost.total() < min_acts:
            try:
                done.append(await _with_timeout(act(next(numbers))))
            except (ProtocolError, OSError, TimeoutError) as error:
                lost[f"{type(error).__name__}: {error}"] += 1

    await asyncio.gather(*(repeat() for _ in range(concurrency)))
    return LoadResult(done, lost, 0.0)


async def _with_timeout(act: Awaitable[float]) -> float:
    async with asyncio.timeout(ACT_TIMEOUT):
        return await act


class LoadGenerator:
    """The browsers of one run, and the phone that confirms their logins.

    Browsers are distributed evenly over the servers. The phone uses one session over
    many connections, because the number of sessions of a person is limited.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._target = fleet.target
        self._urls = fleet.urls
        self._phones: defaultdict[str, deque[Phone]] = defaultdict(deque)
        self._session_phone: Phone | None = None
        self._opening = asyncio.Lock()

    async def log_in(self, number: int) -> float:
        """A whole login: begin at one server, scan and confirm at the next one, redeem."""
        browser = await self.begin(number)
        try:
            await asyncio.sleep(REACTION_DELAY)
            await self.scan(browser, number)
            await asyncio.sleep(REACTION_DELAY)
            latency = await self.confirm(browser, number)
            await browser.redeem()
        finally:
            browser.close()
        return latency

    async def connect(self, number: int) -> Browser:
        """A connected browser without a login."""
        return await self._target.browser(self._url(number))

    async def begin(self, number: int) -> Browser:
        """A browser with a login."""
        browser = await self.connect(number)
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
        """Seconds from the phone's request until the push to the browser."""
        async with self._phone(number) as phone:
            start = time.perf_counter()  # the resolution of loop.time() may be a millisecond
            await phone.confirm(browser)
        return await browser.wait_until_confirmed() - start

    async def gather(self, count: int, *, scanned: bool = False) -> list[Browser]:
        """Connect `count` browsers with a login, as fast as possible."""

        async def open_browser(number: int) -> Browser:
            browser = await self.begin(number)
            if scanned:
                await asyncio.sleep(REACTION_DELAY)
                await self.scan(browser, number)
            return browser

        return await gather_limited(open_browser, range(count))

    def close(self) -> None:
        for phones in self._phones.values():
            for phone in phones:
                phone.close()

    def _url(self, number: int) -> str:
        return self._urls[number % len(self._urls)]

    @asynccontextmanager
    async def _phone(self, number: int) -> AsyncIterator[Phone]:
        """The phone's connection to the server after the one where login `number` began.

        A connection is closed after a failed request. Connections take turns, because a
        server closes a connection that is idle for long.
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
        async with self._opening:
            if self._session_phone is None:
                self._session_phone = await self._target.phone(url)
                return self._session_phone
        return await self._session_phone.reconnect(url)


async def gather_limited(act: Callable[[T], Awaitable[R]], items: Iterable[T]) -> list[R]:
    """The results of `act` for all items, in order. `CONCURRENCY` acts run at a time."""
    limit = asyncio.Semaphore(CONCURRENCY)

    async def run(item: T) -> R:
        async with limit:
            return await act(item)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(run(item)) for item in items]
    return [task.result() for task in tasks]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all values do not exceed. NaN if empty."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


class Closable(Protocol):
    def close(self) -> None: ...


def close_all(clients: Iterable[Closable]) -> None:
    for client in clients:
        client.close()
