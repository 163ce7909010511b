"""Storage of pool codes, of their leases and of their pictures."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Protocol

from broker.pool.model import (
    CodeKey,
    CodeRecord,
    CodeReservation,
    LeasedCode,
    OfferedCode,
    PoolLevel,
)


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


class CodeReservations(Protocol):
    """The numbers of an app's codes and the reservations of those that are being drawn.

    Each method raises Unavailable if the store cannot be reached.
    """

    async def missing(self, app: str, count: int) -> Sequence[int]:
        """Return the numbers below `count` without a ready code, in ascending order."""
        ...

    async def reserve(self, app: str, number: int, *, seconds: float) -> CodeReservation | None:
        """Reserve `number` for `seconds`.

        Of several simultaneous calls one gets the number; the others get None.
        Returns None if the number has a ready code or an active reservation.
        After an expired or released reservation the number keeps its scene.
        After a retired code it gets a new scene and the next drawing.
        """
        ...

    async def finish(self, reservation: CodeReservation, picture: str) -> CodeRecord | None:
        """Make the code ready, with its picture under the key `picture`.

        Returns None if another caller has finished it.
        """
        ...

    async def release_reservation(self, reservation: CodeReservation) -> None:
        """End the reservation. Does nothing if another caller has taken the number over."""
        ...


class ReadyCodes(Protocol):
    """The codes of an app that can be shown.

    Each method raises Unavailable if the store cannot be reached.
    """

    async def count(self, app: str) -> int:
        """Return the number of ready codes."""
        ...

    def ready(self, app: str, *, since: float = 0.0) -> AsyncIterator[Sequence[CodeRecord]]:
        """Yield the ready codes that were drawn at `since` or later, in batches.

        The codes are in ascending order of their numbers.
        """
        ...

    def retired(self, app: str, *, since: float = 0.0) -> AsyncIterator[Mapping[int, int]]:
        """Yield the numbers of codes that were retired at `since` or later, in batches.

        The numbers are in ascending order. Each is mapped to its last retired drawing.
        """
        ...

    async def drawn_before(self, app: str, *, before: float, limit: int) -> Sequence[CodeRecord]:
        """Return at most `limit` ready codes that were drawn before then, oldest first."""
        ...

    async def retire(self, chosen: Sequence[CodeRecord | CodeKey]) -> None:
        """Retire ready codes. Their numbers are missing then; their pictures remain.

        Other codes are not changed.
        """
        ...


class RetiredPictures(Protocol):
    """The pictures of retired codes that are not deleted yet.

    Each method raises Unavailable if the store cannot be reached.
    """

    async def retired_with_picture(self, app: str, *, before: float) -> Sequence[CodeRecord]:
        """Return codes that were retired before then and have a picture; at most one batch."""
        ...

    async def forget_pictures(self, chosen: Sequence[CodeRecord]) -> None:
        """Record that the pictures of these codes are deleted."""
        ...


class RemovedAppCodes(Protocol):
    """The codes of apps that no longer exist.

    Each method raises Unavailable if the store cannot be reached.
    """

    async def removed_apps(self, settings_apps: Collection[str]) -> Sequence[str]:
        """Return the keys of removed apps that have codes.

        settings_apps: keys of the apps that are defined in the settings.
        """
        ...

    async def retire_all(self, app: str) -> None:
        """Retire every ready code of the app."""
        ...

    async def has_pictures(self, app: str) -> bool:
        """Return whether a code of the app has a picture or an active reservation."""
        ...

    async def forget(self, app: str) -> None:
        """Delete the app's codes, except those with a picture or an active reservation."""
        ...


class CodeStore(CodeReservations, ReadyCodes, RetiredPictures, RemovedAppCodes, Protocol):
    """Everything that is recorded about pool codes."""


RESTORE_BATCH = 100
"""Codes whose cooldown has ended that one lease makes free, at most. After a quiet night
the first lease in a large pool therefore does not block the state."""


class CodeLeases(Protocol):
    """Code pools by app key: which login has leased which number.

    | number is | lease  | return   | lease expires | cooldown ends | offer            | withdraw |
    |-----------|--------|----------|---------------|---------------|------------------|----------|
    | absent    |        |          |               |               | free or cooldown |          |
    | free      | leased |          |               |               |                  | absent   |
    | leased    |        | cooldown | cooldown      |               |                  | absent   |
    | cooldown  |        |          |               | free          |                  | absent   |

    During the cooldown, a photograph of the code or a phone that scans late may still use it.
    Such a scan must find the login that it was meant for, not another person's. The cooldown
    is therefore longer than a login is retained.

    Every instance may call every method. Repeating a call has no further effect, except for
    `lease`: a number whose response was lost is returned by the expiry of its lease.
    Each method raises Unavailable if the state cannot be reached.
    """

    async def lease(self, app: str, *, until: float, cooldown: float) -> LeasedCode | None:
        """Lease the lowest free number until then, Unix time in seconds; None if none is free.

        For a number that is not returned, the cooldown begins at `until`.
        One call is one round trip, and takes as long in a large pool as in a small one.
        Each call makes at most `RESTORE_BATCH` numbers free whose cooldown has ended, those
        first whose cooldown ended first.
        """

    async def return_code(self, app: str, number: int, generation: int, *, cooldown: float) -> None:
        """End a lease; the cooldown begins now.

        Does nothing if this lease has ended or is not the number's current lease.
        """

    async def offer(
        self, app: str, codes: Collection[OfferedCode], *, cooldown: float = 0.0
    ) -> None:
        """Add codes to the pool of all instances.

        A later drawing replaces an earlier one, in any order of calls. The same drawing
        replaces itself. The next lease of the number returns the replacement. Numbers in the
        pool keep their state. New numbers are free after `cooldown` seconds, which is for
        codes that may be on a screen after the state was lost.
        Raises Unavailable if there is no room; some of the codes may be in the pool then.
        """

    async def withdraw(self, app: str, drawings: Mapping[int, int]) -> None:
        """Remove numbers from the pool. `drawings` maps each number to the retired drawing.

        An active lease continues until its end; the number is not free afterwards. Only a
        later drawing of the number can be offered again. If the pool has a later drawing
        already, the number remains.
        """

    async def level(self, app: str) -> PoolLevel:
        """Return the number of codes by state."""

    async def forget(self, app: str) -> None:
        """Delete the pool of a removed app, with all entries for its numbers."""
