"""Limits of uploads. Counters are local to this process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from broker.files.errors import TooManyUploads, UploadsBusy
from broker.infrastructure.rate_limit import RateLimit

HOUR = 3_600.0

UPLOADS_MAX = 16
"""Concurrent uploads of this process: each holds up to 8 MiB."""

SESSION_SHARE, PERSON_SHARE, SERVER_SHARE = 1, 2, 8
"""Concurrent uploads of one session, of one person, and of one app's own servers."""

RETRY_DELAY = 2


class UploadLimits:
    """per_hour: uploads of one person in an hour."""

    def __init__(self, *, per_hour: int) -> None:
        self._hourly = RateLimit(per_hour, HOUR)
        self._running: Counter[str] = Counter()
        self._count = 0

    @contextmanager
    def uploading(self, shares: Mapping[str, int]) -> Iterator[None]:
        """Count one upload inside.

        shares: the concurrent uploads that each key may have.
        Raises TooManyUploads, or UploadsBusy if the process has `UPLOADS_MAX` uploads.
        """
        if any(self._running[key] >= share for key, share in shares.items()):
            raise TooManyUploads(RETRY_DELAY)
        if self._count >= UPLOADS_MAX:
            raise UploadsBusy
        self._running.update(shares.keys())
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1
            self._running.subtract(shares.keys())
            self._running += Counter()  # drops keys without uploads

    def count(self, person: str) -> None:
        """Count an upload of a person. Raises TooManyUploads."""
        if not self._hourly.hit(person):
            raise TooManyUploads(self._hourly.retry_after(person))
