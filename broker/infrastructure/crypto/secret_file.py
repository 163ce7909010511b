"""A file for its owner alone: mode 0600, written as a whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from broker.errors import StartupError


class SecretFile:
    """Every method raises KeyFileError where the file system says no."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> str | None:
        """The text, or None where there is no file; a file that others can read is refused."""
        try:
            mode = self.path.stat().st_mode & 0o777
            text = self.path.read_text()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise KeyFileError(f"cannot read {self.path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise self.damaged_error() from None
        if mode & 0o077:
            raise KeyFileError(
                f"{self.path} can be read by others (mode {mode:o}): chmod 600 it, and rotate "
                "the keys twice if anybody else may have seen them"
            )
        return text

    def create(self, text: str) -> bool:
        """Write `text` where there is no file yet; say whether there was none."""
        return self._write(text, _link)

    def replace(self, text: str) -> None:
        self._write(text, os.replace)

    def damaged_error(self) -> KeyFileError:
        """What to raise for a text that is none of ours."""
        return KeyFileError(f"{self.path} is damaged: restore it or move it away")

    def missing_error(self) -> KeyFileError:
        return KeyFileError(f"{self.path} vanished while it was being read")

    def _write(self, text: str, place: Callable[[str, Path], None]) -> bool:
        try:
            descriptor, draft = tempfile.mkstemp(dir=self.path.parent, prefix=".keys-")
        except OSError as error:
            raise KeyFileError(f"cannot write {self.path}: {error.strerror}") from None
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            place(draft, self.path)
        except FileExistsError:
            return False
        except OSError as error:
            raise KeyFileError(f"cannot write {self.path}: {error.strerror}") from None
        finally:
            Path(draft).unlink(missing_ok=True)
        return True


def _link(draft: str, path: Path) -> None:
    """Let the file appear whole, unless there is one.  Raises FileExistsError."""
    try:
        os.link(draft, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links: two first starts at once may both write
        if path.exists():
            raise FileExistsError from None
        os.replace(draft, path)


class KeyFileError(StartupError):
    """The key file cannot be read, written or understood."""
