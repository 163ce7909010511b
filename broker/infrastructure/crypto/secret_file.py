"""A file with mode 0600 that is replaced atomically."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from broker.errors import StartupError

OTHER_USER = "run this command as the broker's user, or give that user the file and its folder"


class SecretFile:
    """A file that only its owner can read. Every method raises KeyFileError."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> str | None:
        """Return the text, or None if there is no file. Refuse a file that others can read."""
        try:
            mode = self.path.stat().st_mode & 0o777
            text = self.path.read_text()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._access_error("read", error) from None
        except UnicodeDecodeError:
            raise self.damaged_error() from None
        if mode & 0o077:
            raise KeyFileError(
                f"{self.path} can be read by other users (mode {mode:o})",
                "chmod 600 it. If another user may have read the token keys, run scan-login key "
                "rotate --now twice",
            )
        return text

    def create(self, text: str) -> bool:
        """Write `text` unless there is a file. Return whether it was written."""
        return self._write(text, _link)

    def replace(self, text: str) -> None:
        self._write(text, os.replace)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Wait until no other process is in this block. A process that ends leaves it.

        The lock is on the folder, because a replaced file is another file.
        """
        try:
            descriptor = os.open(self.path.parent, os.O_RDONLY)
        except OSError as error:
            raise self._access_error("write", error) from None
        try:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def damaged_error(self) -> KeyFileError:
        """Return the error for a file with invalid content."""
        return KeyFileError(
            f"{self.path} is damaged", "restore it from a backup, or move it away if there is none"
        )

    def missing_error(self) -> KeyFileError:
        return KeyFileError(f"{self.path} was deleted while it was read")

    def _access_error(self, act: str, error: OSError) -> KeyFileError:
        """act: `read` or `write`."""
        remedy = OTHER_USER if isinstance(error, PermissionError) else ""
        return KeyFileError(f"cannot {act} {self.path}: {error.strerror}", remedy)

    def _write(self, text: str, move: Callable[[str, Path], None]) -> bool:
        try:
            descriptor, draft = tempfile.mkstemp(dir=self.path.parent, prefix=".keys-")
        except OSError as error:
            raise self._access_error("write", error) from None
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
                _keep_owner(file.fileno(), self.path)
            move(draft, self.path)
        except FileExistsError:
            return False
        except OSError as error:
            raise self._access_error("write", error) from None
        finally:
            Path(draft).unlink(missing_ok=True)
        return True


def _keep_owner(descriptor: int, path: Path) -> None:
    """Give a new file the owner of the file at `path`, or of the folder if there is none.

    Operators run commands as root, and the broker's own user must be able to read the file.
    """
    owner = (path if path.exists() else path.parent).stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _link(draft: str, path: Path) -> None:
    """Make the complete draft appear at `path`. Raises FileExistsError if there is a file."""
    try:
        os.link(draft, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links: two processes that start at once may both write
        if path.exists():
            raise FileExistsError from None
        os.replace(draft, path)


class KeyFileError(StartupError):
    """The key file cannot be read, parsed or written."""
