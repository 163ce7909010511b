"""Storage protocols of files."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from typing import Protocol

from broker.files.model import ExpiredFile, Reservation, StoredFile


class FileWriter(Protocol):
    """Writes one file. Its methods raise FilesUnavailable."""

    async def write(self, data: bytes) -> None:
        """Append bytes."""

    async def close(self) -> None:
        """Finish. The file can be read from then on, and not before."""

    def abort(self) -> None:
        """Drop what was written. A file that is not closed is never there."""


class FileStore(Protocol):
    """Stores the bytes of files. Its methods raise FilesUnavailable."""

    def open_writer(self, key: str, *, media_type: str, disposition: str) -> FileWriter:
        """Return a writer for a new file, with the headers that the store itself would send."""

    def read(self, key: str, start: int, end: int) -> AsyncGenerator[bytes]:
        """Yield the bytes from `start` to before `end`. Raises UnknownFile if there is no file.

        A file that is deleted meanwhile is read to its end, or raises FilesUnavailable.
        """

    async def delete(self, key: str) -> None:
        """Delete the file if there is one."""

    async def sign_url(self, key: str, *, seconds: int) -> str:
        """Return a URL of the store itself for the file, valid for `seconds`."""

    def keys_before(self, time: float) -> AsyncIterator[Sequence[str]]:
        """Yield the keys of the files that were written before `time`, some at a time."""

    async def delete_unfinished(self, before: float) -> None:
        """Delete what processes that have crashed left of files, if last written before `before`.

        Incomplete uploads to a bucket remain.
        """


class FileRecords(Protocol):
    """Records of files. Its methods raise Unavailable."""

    async def add(self, file: StoredFile) -> None:
        """Record a file in place of its reservation. It can be found from then on."""

    async def get(self, file_id: str, *, now: float) -> StoredFile | None:
        """Return the file; None if it is unknown or has expired."""

    async def remove(self, file_id: str) -> None:
        """Delete the record or the reservation, if there is one."""

    async def find(
        self, app: str, person: str | None, *, after: str, limit: int, now: float
    ) -> Sequence[StoredFile]:
        """Return files of an app by id, after the id `after`; those of one person, if given."""


class FileQuota(Protocol):
    """Quotas of owners, over all instances. Its methods raise Unavailable."""

    async def reserve(self, reservation: Reservation, *, quota: int, now: float) -> None:
        """Hold `reservation.size` bytes until `add` or `remove`.

        Of simultaneous reservations, those that fit into `quota` bytes with the owner's files
        succeed. Raises QuotaExceeded.
        """


class FileCleanup(Protocol):
    """Finds records that have ended. Its methods raise Unavailable."""

    async def expired(self, *, now: float, limit: int) -> Sequence[ExpiredFile]:
        """Return files that have expired, and reservations, which have an empty key."""

    async def unknown_keys(self, keys: Collection[str]) -> Collection[str]:
        """Return those of `keys` without a record."""


class Scan(Protocol):
    """The check of one file by a virus scanner."""

    async def write(self, data: bytes) -> None:
        """Send bytes. Raises ScannerUnavailable."""

    async def finish(self) -> None:
        """Wait for the verdict. Raises InfectedFile or ScannerUnavailable."""

    def close(self) -> None:
        """Close the connection to the scanner."""


class VirusScanner(Protocol):
    async def open(self) -> Scan:
        """Begin the check of a file. Raises ScannerUnavailable."""
