"""Where pool codes are leased and their pictures are stored."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from broker.pool.model import LeasedCode, OfferedCode, PoolLevel


class PictureStore(Protocol):
    """Stores the pictures of codes under keys (see `picture_key`)."""

    def url(self, key: str) -> str:
        """Return the URL at which browsers fetch the picture."""
        ...

    async def put(self, key: str, content: bytes) -> None:
        """Store `content` under `key` unless the key has a picture.  Raises PicturesUnavailable."""
        ...

    async def get(self, key: str) -> bytes | None:
        """Return the picture, None if there is none.  Raises PicturesUnavailable."""
        ...

    async def remove(self, key: str) -> None:
        """Delete the picture if there is one.  Raises PicturesUnavailable."""
        ...


RESTORE_BATCH = 100
"""Rested numbers that one lease brings back at most: after a quiet night of a large pool,
the first login does not keep the state from all others."""


class CodeLeases(Protocol):
    """Pools of codes, one by an app's key: which login holds which number.

    | number is | lease  | give back | its time is over | offered        | withdrawn |
    |-----------|--------|-----------|------------------|----------------|-----------|
    | not there |        |           |                  | free, or rests |           |
    | free      | leased |           |                  |                | not there |
    | leased    |        | rests     | rests            |                | not there |
    | resting   |        |           | free             |                | not there |

    A number rests because its code is still about: photographed, or open on a phone that
    scans late.  Such a scan must find the login that it was meant for, ended, and not a
    stranger's; so `rest` is longer than a login and what it is kept for afterwards.

    Every call may be made again, by any instance; the same call twice does what one does,
    but for a lease, whose number comes back by itself when nobody heard the answer.
    """

    async def lease(self, app: str, *, until: float, cooldown: float) -> LeasedCode | None:
        """Take the lowest free number until then, Unix time in seconds; None where none is free.

        A number that nobody gives back rests from `until` on.  One trip to the state, and
        as quick in a large pool: what is back from its rest is brought in by leases, at most
        `RESTORE_BATCH` numbers by each, those first that were back first.
        """

    async def return_code(self, app: str, number: int, generation: int, *, cooldown: float) -> None:
        """End that lease: the number rests from now on.

        Nothing happens where the lease is over already, or is not the number's present one.
        """

    async def offer(
        self, app: str, codes: Collection[OfferedCode], *, cooldown: float = 0.0
    ) -> None:
        """Put codes into the pool, for every instance at once.

        Of two drawings of a number the later counts, whichever was offered first, and of one
        drawing what was said last; it is what the number's next lease answers with.  Numbers
        that are there stay as they are: free, leased or resting.  Others are free after `rest`,
        which is for codes that may be on a screen of which the state knows nothing: it was lost.
        Raises Unavailable when there is no room; some may be in the pool then.
        """

    async def withdraw(self, app: str, drawings: Mapping[int, int]) -> None:
        """Take numbers out of the pool, for good: by number, which drawing of it is done with.

        A lease goes on to its end and does not come back.  Only a later drawing of the number
        can be offered again, and where one is in the pool already it stays.
        """

    async def level(self, app: str) -> PoolLevel:
        """How full the pool is."""

    async def forget(self, app: str) -> None:
        """Delete the pool of a removed app, and all entries for its numbers."""
