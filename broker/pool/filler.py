"""Fills an app's pool with codes that are drawn in advance.

    reserve ──▶ draw ──▶ put ─────▶ finish ──▶ offer
     a row     a picture  stored    ready     can be leased

No code is drawn without a row, and no code is ready without a picture. If a filler is
interrupted, its row remains, and the next filler uses the row's number and scene. A code that
is ready is not drawn again. Several fillers may run at the same time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple, TypeVar

from aiolimiter import AsyncLimiter

from broker.errors import Unavailable, failure_reason
from broker.identity.errors import ProviderUnavailable
from broker.identity.ports import CodePicture, Provider
from broker.pool.batches import CONCURRENCY
from broker.pool.images import validation_error
from broker.pool.model import DEFAULT_CODES_PER_MINUTE, CodeRecord, CodeReservation
from broker.pool.pictures import picture_key
from broker.pool.ports import CodeReservations, PictureStore

T = TypeVar("T")

RESERVATION_TIMEOUT = 30.0
"""Seconds for which a number is reserved. This is longer than it takes to draw and store a
code. After a crash, other fillers wait this long for the reserved numbers."""

RETRY_DELAYS = (2.0, 5.0, 10.0, 20.0, 40.0)
"""Seconds before each retry after a temporary failure."""

POLL_INTERVAL = 1.0
"""Seconds between two checks of the numbers that other fillers have reserved."""

OfferCodes = Callable[[Sequence[CodeRecord]], Awaitable[None]]
"""Adds codes to a pool, so that logins can lease them."""


class FillProgress(NamedTuple):
    """The progress of a filler.

    ready: number of ready codes.
    target: number of ready codes at the end.
    waiting_for: the failure after which the filler waits for a retry; empty if there is none.
    """

    ready: int
    target: int
    waiting_for: str = ""


class PoolFiller:
    """Draws codes for `app` until each number below `count` has one.

    app: the app's key.
    per_minute: the maximum number of codes drawn per minute.
    offer: receives each code when it is ready.
    report: receives the progress.
    retry_delays: see `RETRY_DELAYS`.

    finishing: numbers whose code is ready, or almost, and is not offered yet.
    """

    def __init__(
        self,
        *,
        provider: Provider,
        codes: CodeReservations,
        pictures: PictureStore,
        app: str,
        count: int,
        per_minute: float = DEFAULT_CODES_PER_MINUTE,
        offer: OfferCodes | None = None,
        report: Callable[[FillProgress], None] = lambda progress: None,
        retry_delays: Sequence[float] = RETRY_DELAYS,
    ) -> None:
        self._provider = provider
        self._codes = codes
        self._pictures = pictures
        self._app = app
        self._count = count
        self._limiter = AsyncLimiter(1, 60 / per_minute)
        self._offer = offer
        self._report = report
        self._retry_delays = retry_delays
        self.finishing: set[int] = set()
        self._ready = 0
        self._drawn = 0
        self._failure: Unavailable | None = None
        self._stopped = asyncio.Event()

    async def run(self) -> int:
        """Fill the pool and return the number of codes that were drawn.

        Raises Unavailable after a permanent failure or the last retry. Codes that are ready
        then remain ready.
        """
        while not self._stopped.is_set():
            missing = await self._retry(partial(self._codes.missing, self._app, self._count))
            self._ready = self._count - len(missing)
            self._report_progress()
            if not missing:
                break
            drawn = self._drawn
            await self._draw_all(missing)
            if drawn == self._drawn:  # other fillers have reserved the missing numbers
                await self._wait(POLL_INTERVAL)
        if self._failure is not None:
            raise self._failure
        return self._drawn

    def stop(self) -> None:
        """Finish the codes that are being drawn, and draw no others."""
        self._stopped.set()

    async def _draw_all(self, missing: Sequence[int]) -> None:
        numbers = iter(missing)
        async with asyncio.TaskGroup() as workers:
            for _ in range(CONCURRENCY):
                workers.create_task(self._work(numbers))

    async def _work(self, numbers: Iterator[int]) -> None:
        """Fill numbers from an iterator that all workers share, until one worker fails."""
        for number in numbers:
            await self._limiter.acquire()
            if self._stopped.is_set():
                return
            try:
                await self._fill(number)
            except Unavailable as failure:
                self._fail(failure)

    def _fail(self, failure: Unavailable) -> None:
        self._failure = self._failure or failure
        self.stop()

    async def _fill(self, number: int) -> None:
        reserve = partial(self._codes.reserve, self._app, number, seconds=RESERVATION_TIMEOUT)
        reservation = await self._retry(reserve)
        if reservation is None:
            return
        try:
            picture = await self._retry(partial(self._draw, reservation.scene))
            key = picture_key(reservation.scene, picture.media_type)
            await self._retry(partial(self._pictures.put, key, picture.content))
            await self._finish(reservation, key)
        except Unavailable as failure:
            self._fail(
                failure
            )  # at once: later failures, such as of the circuit breaker, follow it
            with suppress(Unavailable):  # the reservation expires
                await self._codes.release_reservation(reservation)

    async def _draw(self, scene: str) -> CodePicture:
        picture = await self._provider.draw(scene)
        if error := validation_error(picture.content, picture.media_type):
            raise ProviderUnavailable(f"the provider returned an invalid picture: {error}", 2)
        return picture

    async def _finish(self, reservation: CodeReservation, picture: str) -> None:
        self.finishing.add(reservation.number)
        try:
            code = await self._retry(partial(self._codes.finish, reservation, picture))
            if code is not None:
                await self._offer_code(code)
        finally:
            self.finishing.discard(reservation.number)

    async def _offer_code(self, code: CodeRecord) -> None:
        if self._offer is not None:
            await self._retry(partial(self._offer, [code]))
        self._drawn += 1
        self._ready += 1
        self._report_progress()

    async def _retry(self, call: Callable[[], Awaitable[T]]) -> T:
        """Return the result of `call`; retry temporary failures until `stop` is called."""
        for delay in self._retry_delays:
            try:
                return await call()
            except Unavailable as failure:
                if not failure.retryable or self._stopped.is_set():
                    raise
                self._report_progress(failure_reason(failure))
                await self._wait(delay)
        return await call()

    async def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopped.wait()

    def _report_progress(self, waiting_for: str = "") -> None:
        self._report(FillProgress(self._ready, self._count, waiting_for))
