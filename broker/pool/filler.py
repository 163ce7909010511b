"""Fills an app's pool: codes drawn ahead of time, each from a number to a picture.

    reserve ──▶ draw ──▶ put ──▶ finish ──▶ offer
     a row     a picture  kept    ready     for lease

So nothing is drawn without a row, and nothing is shown without a picture.  A filling that
ends in between leaves a row, and the next one goes on with its number and scene; a code
that is ready is never drawn again.  Any number of fillings may run at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from aiolimiter import AsyncLimiter

from broker.errors import Unavailable
from broker.identity.errors import ProviderUnavailable
from broker.identity.ports import CodePicture, Provider
from broker.pool.images import validation_error
from broker.pool.model import CodeRecord, CodeReservation
from broker.pool.pictures import picture_key
from broker.pool.ports import PictureStore
from broker.records.errors import RecordsUnavailable

if TYPE_CHECKING:
    from broker.records.pool_codes import SqlCodeStore


T = TypeVar("T")

CONCURRENCY = 8
"""Codes that are drawn, or looked at, at the same time."""

DEFAULT_CODES_PER_MINUTE = 3000
"""Codes drawn a minute.  WeChat allows a mini program 5 000, brokers that draw live included."""

RESERVATION_TIMEOUT = 30.0
"""Seconds that a number is ours: for longer than drawing and keeping one code takes.  So long
the next filling waits for what one that was killed had begun."""

RETRY_DELAYS = (2.0, 5.0, 10.0, 20.0, 40.0)
"""Seconds before each further try, where trouble may pass by itself."""

POLL_INTERVAL = 1.0
"""Seconds between two looks at what others have yet to finish."""

OfferCodes = Callable[[Sequence[CodeRecord]], Awaitable[None]]
"""Opens codes for lease."""


class FillProgress(NamedTuple):
    """How far a filling is: so many of the numbers that are wanted have a ready code.

    trouble: what it waits for, for the operator; empty while all goes well.
    """

    ready: int
    wanted: int
    waiting_for: str = ""


class PoolFiller:
    """Draws codes for `app` until each number below `count` has one.

    per_minute: codes that are drawn a minute at most.  offer: is told of each code.
    report: hears how far it is.  waits: see `RETRY_DELAYS`.

    opening: numbers whose code is ready, or about to be, and which `offer` has yet to be told.
    """

    def __init__(
        self,
        *,
        provider: Provider,
        codes: SqlCodeStore,
        pictures: PictureStore,
        app: str,
        count: int,
        per_minute: float = DEFAULT_CODES_PER_MINUTE,
        offer: OfferCodes | None = None,
        report: Callable[[FillProgress], None] = lambda progress: None,
        waits: Sequence[float] = RETRY_DELAYS,
    ) -> None:
        self._provider = provider
        self._codes = codes
        self._pictures = pictures
        self._app = app
        self._count = count
        self._limiter = AsyncLimiter(1, 60 / per_minute)
        self._offer = offer
        self._report = report
        self._waits = waits
        self.finishing: set[int] = set()
        self._ready = 0
        self._drawn = 0
        self._failure: Unavailable | None = None
        self._stopped = asyncio.Event()

    async def run(self) -> int:
        """Fill, or go on filling; how many codes it has drawn.

        Raises ProviderUnavailable, PicturesUnavailable or RecordsUnavailable for trouble that
        does not pass.
        Whatever ends it, codes that are ready stay so.
        """
        while not self._stopped.is_set():
            missing = await self._patiently(partial(self._codes.missing, self._app, self._count))
            self._ready = self._count - len(missing)
            self._tell()
            if not missing:
                break
            drawn = self._drawn
            await self._draw_all(missing)
            if drawn == self._drawn:  # others have reserved what is missing
                await self._pause(POLL_INTERVAL)
        if self._failure is not None:
            raise self._failure
        return self._drawn

    def stop(self) -> None:
        """Finish what is being drawn, and begin nothing more."""
        self._stopped.set()

    async def _draw_all(self, missing: Sequence[int]) -> None:
        numbers = iter(missing)
        async with asyncio.TaskGroup() as workers:
            for _ in range(CONCURRENCY):
                workers.create_task(self._work(numbers))

    async def _work(self, numbers: Iterator[int]) -> None:
        """Take from `numbers`, as others do, until there is none or somebody fails."""
        for number in numbers:
            await self._limiter.acquire()
            if self._stopped.is_set():
                return
            try:
                await self._fill(number)
            except Unavailable as failure:
                self._failure = self._failure or failure
                self.stop()

    async def _fill(self, number: int) -> None:
        reserve = partial(self._codes.reserve, self._app, number, seconds=RESERVATION_TIMEOUT)
        reserved = await self._patiently(reserve)
        if reserved is None:
            return
        try:
            picture = await self._patiently(partial(self._draw, reserved.scene))
            key = picture_key(reserved.scene, picture.media_type)
            await self._patiently(partial(self._pictures.put, key, picture.content))
            await self._finish(reserved, key)
        except Unavailable:
            with suppress(RecordsUnavailable):  # it is let go of by itself, only later
                await self._codes.release_reservation(reserved)
            raise

    async def _draw(self, scene: str) -> CodePicture:
        picture = await self._provider.draw(scene)
        if said := validation_error(picture.content, picture.media_type):
            raise ProviderUnavailable(f"the provider drew no picture: {said}", 2)
        return picture

    async def _finish(self, reserved: CodeReservation, picture: str) -> None:
        self.finishing.add(reserved.number)
        try:
            code = await self._patiently(partial(self._codes.finish, reserved, picture))
            if code is not None:
                await self._open(code)
        finally:
            self.finishing.discard(reserved.number)

    async def _open(self, code: CodeRecord) -> None:
        if self._offer is not None:
            await self._patiently(partial(self._offer, [code]))
        self._drawn += 1
        self._ready += 1
        self._tell()

    async def _patiently(self, act: Callable[[], Awaitable[T]]) -> T:
        """What `act` gives, tried again while its trouble may pass and nobody has stopped us."""
        for wait in self._waits:
            try:
                return await act()
            except Unavailable as trouble:
                if not trouble.retryable or self._stopped.is_set():
                    raise
                self._tell(failure_reason(trouble))
                await self._pause(wait)
        return await act()

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopped.wait()

    def _tell(self, trouble: str = "") -> None:
        self._report(FillProgress(self._ready, self._count, trouble))


async def gather_all(acts: Iterable[Awaitable[T]]) -> list[T]:
    """What each gives; raises what one raised, once all have ended."""
    given = await asyncio.gather(*acts, return_exceptions=True)
    for one in given:
        if isinstance(one, BaseException):
            raise one
    return [one for one in given if not isinstance(one, BaseException)]


def failure_reason(trouble: Unavailable) -> str:
    """What the operator should know of it."""
    return str(getattr(trouble, "reason", trouble))
