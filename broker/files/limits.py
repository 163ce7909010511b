"""Limits of uploads and downloads. Counters are local to this process."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager

from broker.files.errors import DownloadsBusy, TooManyUploads, UploadsBusy
from broker.infrastructure.fair_queue import FairQueue
from broker.infrastructure.rate_limit import RateLimit

HOUR = 3_600.0

UPLOADS_MAX = 16
"""Concurrent uploads of this process: each holds up to 8 MiB."""

SESSION_SHARE, PERSON_SHARE, SERVER_SHARE = 1, 2, 8
"""Concurrent uploads of one session, of one person, and of one app's own servers."""

SAFE_SECONDS = 10.0
"""Seconds after which an upload ends if another one has no place."""

RETRY_DELAY = 2

READS_MAX, READS_SHARE = 32, 4
"""Concurrent reads and deletions of this process, and those of one caller. Pictures of codes have
the same limits."""

READ_TIMEOUT = 10.0
"""Seconds that a read may wait for its turn."""


class UploadLimits:
    """Limits uploads by person and session, and in total.

    If all places are taken, a new upload takes that of the oldest one which is older than
    `safe_seconds`. Otherwise a few people with slow uploads would keep everyone out.

    per_hour: uploads of one person in an hour.
    """

    def __init__(self, *, per_hour: int, safe_seconds: float = SAFE_SECONDS) -> None:
        self._hourly = RateLimit(per_hour, HOUR)
        self._running: Counter[str] = Counter()
        self._safe_seconds = safe_seconds
        self._places: dict[asyncio.Timeout, float] = {}  # time of each start, oldest first

    @asynccontextmanager
    async def uploading(
        self, shares: Mapping[str, int], *, person: str | None = None
    ) -> AsyncIterator[None]:
        """Count one upload inside.

        shares: the concurrent uploads that each key may have.
        person: the key of the person whose uploads in an hour are counted; None for a server.
        Raises TooManyUploads, or UploadsBusy if the process has `UPLOADS_MAX` uploads, also in
        an upload that another one replaces.
        """
        if any(self._running[key] >= share for key, share in shares.items()):
            raise TooManyUploads(RETRY_DELAY)
        if person is not None and not self._hourly.hit(person):
            raise TooManyUploads(self._hourly.retry_after(person))
        now = asyncio.get_running_loop().time()
        self._free_place(now)
        place = asyncio.timeout(None)
        try:
            with self._counting(shares):
                async with place:
                    self._places[place] = now
                    yield
        except TimeoutError:
            if place.expired():
                raise UploadsBusy from None
            raise
        finally:
            self._places.pop(place, None)

    def _free_place(self, now: float) -> None:
        """End the oldest upload if there is no place. Raises UploadsBusy if all are new."""
        if len(self._places) < UPLOADS_MAX:
            return
        oldest, start = next(iter(self._places.items()))
        if now - start < self._safe_seconds:
            raise UploadsBusy
        del self._places[oldest]
        oldest.reschedule(now)

    @contextmanager
    def _counting(self, shares: Mapping[str, int]) -> Iterator[None]:
        self._running.update(shares.keys())
        try:
            yield
        finally:
            self._running.subtract(shares.keys())
            self._running += Counter()  # drops keys without uploads


class ReadLimits:
    """Limits how many requests use the database and the file store at a time.

    A turn ends before the client gets the data. Otherwise a few slow clients would hold all turns.
    """

    def __init__(self) -> None:
        self._turns = FairQueue(share=READS_SHARE, total=READS_MAX, wait=READ_TIMEOUT)

    @asynccontextmanager
    async def reading(self, caller: str) -> AsyncIterator[None]:
        """Wait for a turn of `caller`. Raises DownloadsBusy after `READ_TIMEOUT`."""
        try:
            await self._turns.acquire(caller)
        except TimeoutError:
            raise DownloadsBusy from None
        try:
            yield
        finally:
            self._turns.release(caller)

    async def each(self, caller: str, chunks: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
        """Yield the chunks, and close them. Each is read in a turn of `caller`."""
        async with aclosing(chunks):
            while True:
                async with self.reading(caller):
                    chunk = await anext(chunks, None)
                if chunk is None:
                    return
                yield chunk
