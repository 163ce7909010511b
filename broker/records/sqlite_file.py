"""The file of a SQLite database, created once with mode 0600 and then only checked.

After that, only SQLite opens the file. POSIX drops all locks that a process holds on a file when
the process closes any of its descriptors of that file, including the locks of SQLite:
https://www.sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from broker.records.errors import RecordsUnavailable

MODE = 0o600
"""SQLite gives `-wal` and `-shm` the same mode."""

REPAIR = "stop all brokers, restore the file, and start them"


class Inode(NamedTuple):
    device: int
    number: int


class DatabaseFile:
    """The file of a database, identified by its inode after the first connection."""

    def __init__(self, path: str) -> None:
        self._path = Path(path).absolute()
        self._inode: Inode | None = None
        self.was_created = False

    def prepare(self) -> str:
        """Return the URI for the next connection, which creates no file.

        The first call creates the file if there is none, and must precede any connection.
        Raises RecordsUnavailable.
        """
        if self._inode is None:
            self._create()
            with suppress(OSError):  # SQLite reports why it cannot open the file
                self._inode = _inode(self._path)
        self.check()
        return f"{self._path.as_uri()}?mode=rw"

    def check(self) -> None:
        """Raise RecordsUnavailable if the file was deleted or replaced after the first connection.

        Connections would write to the former file, and these writes would be lost.
        """
        if (problem := self.problem()) is not None:
            raise RecordsUnavailable(problem)

    def problem(self) -> str | None:
        """Return how the file in use was lost; None if it was not, or if none is in use yet."""
        if self._inode is None:
            return None
        try:
            found = _inode(self._path)
        except OSError as error:
            return f"the database file is missing or inaccessible ({error.strerror}): {REPAIR}"
        if found != self._inode:
            return f"the database file was replaced: {REPAIR}"
        return None

    def _create(self) -> None:
        """Create an empty file if there is none. Only one of several processes creates it."""
        with suppress(OSError):
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, MODE))
            self.was_created = True


def _inode(path: Path) -> Inode:
    status = path.stat()
    return Inode(status.st_dev, status.st_ino)
