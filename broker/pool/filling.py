"""Fills an app's pool: codes drawn ahead of time, each from a number to a picture.

    reserve ──▶ draw ──▶ put ──▶ finish ──▶ offer
     a row     a picture  kept    ready     for lease

So nothing is drawn without a row, and nothing is shown without a picture.  A filling that
ends in between leaves a row, and the next one goes on with its number and scene; a code
that is ready is never drawn again.  Any number of fillings may run at once.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from aiolimiter import AsyncLimiter

from broker.errors import ProviderFails, RecordsDown, Unavailable
from broker.images import flaw
from broker.pictures import PictureStore, key_of, media_type_of
from broker.providers import Picture, Provider
from broker.records import Code, Drawing, Reserved

if TYPE_CHECKING:  # whoever does not serve need not load a database's library
    from broker.records.codes import Codes

AT_ONCE = 8
"""Codes that are drawn, or looked at, at the same time."""

PER_MINUTE = 3000
"""Codes drawn a minute.  WeChat allows a mini program 5 000, brokers that draw live included."""

RESERVED_FOR = 30.0
"""Seconds that a number is ours: for longer than drawing and keeping one code takes.  So long
the next filling waits for what one that was killed had begun."""

WAITS = (2.0, 5.0, 10.0, 20.0, 40.0)
"""Seconds before each further try, where trouble may pass by itself."""

LOOK = 1.0
"""Seconds between two looks at what others have yet to finish."""

T = TypeVar("T")
Offer = Callable[[Sequence[Code]], Awaitable[None]]
"""Opens codes for lease."""

Withdraw = Callable[[str, Mapping[int, int]], Awaitable[None]]
"""Closes an app's codes for lease: by number, which drawing is done with."""


class Progress(NamedTuple):
    """How far a filling is: so many of the numbers that are wanted have a ready code.

    trouble: what it waits for, for the operator; empty while all goes well.
    """

    ready: int
    wanted: int
    trouble: str = ""


class Filling:
    """Draws codes for `app` until each number below `count` has one.

    per_minute: codes that are drawn a minute at most.  offer: is told of each code.
    report: hears how far it is.  waits: see `WAITS`.

    opening: numbers whose code is ready, or about to be, and which `offer` has yet to be told.
    """

    def __init__(
        self,
        *,
        provider: Provider,
        codes: Codes,
        pictures: PictureStore,
        app: str,
        count: int,
        per_minute: float = PER_MINUTE,
        offer: Offer | None = None,
        report: Callable[[Progress], None] = lambda progress: None,
        waits: Sequence[float] = WAITS,
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
        self.opening: set[int] = set()
        self._ready = 0
        self._drawn = 0
        self._failure: Unavailable | None = None
        self._stopped = asyncio.Event()

    async def run(self) -> int:
        """Fill, or go on filling; how many codes it has drawn.

        Raises ProviderFails, PicturesDown or RecordsDown for trouble that does not pass.
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
                await self._pause(LOOK)
        if self._failure is not None:
            raise self._failure
        return self._drawn

    def stop(self) -> None:
        """Finish what is being drawn, and begin nothing more."""
        self._stopped.set()

    async def _draw_all(self, missing: Sequence[int]) -> None:
        numbers = iter(missing)
        async with asyncio.TaskGroup() as workers:
            for _ in range(AT_ONCE):
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
        reserve = partial(self._codes.reserve, self._app, number, seconds=RESERVED_FOR)
        reserved = await self._patiently(reserve)
        if reserved is None:
            return
        try:
            picture = await self._patiently(partial(self._draw, reserved.scene))
            key = key_of(reserved.scene, picture.media_type)
            await self._patiently(partial(self._pictures.put, key, picture.content))
            await self._finish(reserved, key)
        except Unavailable:
            with suppress(RecordsDown):  # it is let go of by itself, only later
                await self._codes.release(reserved)
            raise

    async def _draw(self, scene: str) -> Picture:
        picture = await self._provider.draw(scene)
        if said := flaw(picture.content, picture.media_type):
            raise ProviderFails(f"the provider drew no picture: {said}", 2)
        return picture

    async def _finish(self, reserved: Reserved, picture: str) -> None:
        self.opening.add(reserved.number)
        try:
            code = await self._patiently(partial(self._codes.finish, reserved, picture))
            if code is not None:
                await self._open(code)
        finally:
            self.opening.discard(reserved.number)

    async def _open(self, code: Code) -> None:
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
                if not trouble.passes or self._stopped.is_set():
                    raise
                self._tell(reason_of(trouble))
                await self._pause(wait)
        return await act()

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopped.wait()

    def _tell(self, trouble: str = "") -> None:
        self._report(Progress(self._ready, self._count, trouble))


class Flaw(NamedTuple):
    """What is wrong with a code."""

    number: int
    said: str


async def verify(
    *,
    codes: Codes,
    pictures: PictureStore,
    app: str,
    draw: Callable[[str], Awaitable[Picture]] | None = None,
) -> list[Flaw]:
    """Every ready code that cannot be shown as it is, and why.

    draw: draws the very same picture of the same scene again; only with it is it known
    what a code carries, for WeChat's round ones are read by WeChat alone.
    """
    flaws: list[Flaw] = []
    async for batch in codes.ready(app):
        for first in range(0, len(batch), AT_ONCE):
            some = batch[first : first + AT_ONCE]
            found = await _together(_flaw(code, pictures, draw) for code in some)
            flaws += [
                Flaw(code.number, said) for code, said in zip(some, found, strict=True) if said
            ]
    return flaws


async def _flaw(
    code: Code, pictures: PictureStore, draw: Callable[[str], Awaitable[Picture]] | None
) -> str | None:
    content = await pictures.get(code.picture)
    if content is None:
        return "its picture is not there"
    said = flaw(content, media_type_of(code.picture))
    if said is None and draw is not None and (await draw(code.scene)).content != content:
        return "its picture is another than would be drawn for its scene now"
    return said


async def retire(
    app: str,
    chosen: Sequence[Code | Drawing],
    *,
    codes: Codes,
    withdraw: Withdraw | None = None,
) -> None:
    """Take codes of `app` out of service; their pictures are left over.

    The row first: what is lost on the way to the state can be said again, by the row.
    """
    await codes.retire(chosen)
    if withdraw is not None:
        await withdraw(app, {one.number: one.drawing for one in chosen})


async def tidy(app: str, *, codes: Codes, pictures: PictureStore, before: float = math.inf) -> None:
    """Remove the pictures of codes that have retired before then, Unix time in seconds.

    Raises PicturesDown or RecordsDown; the next call removes the rest.
    """
    while leftovers := await codes.leftovers(app, before=before):
        for first in range(0, len(leftovers), AT_ONCE):
            some = leftovers[first : first + AT_ONCE]
            await _together(pictures.remove(code.picture) for code in some)
            await codes.forget_pictures(some)


async def _together(acts: Iterable[Awaitable[T]]) -> list[T]:
    """What each gives; raises what one raised, once all have ended."""
    given = await asyncio.gather(*acts, return_exceptions=True)
    for one in given:
        if isinstance(one, BaseException):
            raise one
    return [one for one in given if not isinstance(one, BaseException)]


def reason_of(trouble: Unavailable) -> str:
    """What the operator should know of it."""
    return str(getattr(trouble, "reason", trouble))
