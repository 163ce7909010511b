"""One upload: its limits, and its way into the store and the scanner."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from typing import NamedTuple, Protocol

from broker.errors import InvalidRequest
from broker.files.errors import FileTooLarge
from broker.files.model import StoredFile
from broker.files.ports import FileStore, FileWriter, Scan, VirusScanner
from broker.files.rules import SIGNATURE_BYTES, content_disposition, detect_media_type


class Upload(Protocol):
    """A file that arrives. The methods raise InvalidRequest for a malformed request.

    length: bytes of the request; None if the client does not say.
    """

    @property
    def length(self) -> int | None: ...

    @property
    def fields(self) -> Mapping[str, str]:
        """The form fields that have arrived."""

    @property
    def name(self) -> str:
        """The client's name of the file, cleaned; empty before `open`."""

    async def open(self) -> None:
        """Read the fields before the file."""

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the file's bytes, and then read the fields after it."""


class Content(NamedTuple):
    """Properties of the content that has arrived."""

    size: int
    media_type: str
    sha256: str


class Reception:
    """Writes one file to the store, and to the scanner if there is one.

    max_bytes: of the file.  types: names in `FILE_TYPES`.
    """

    def __init__(
        self,
        *,
        store: FileStore,
        scanner: VirusScanner | None,
        key: str,
        max_bytes: int,
        types: tuple[str, ...],
    ) -> None:
        self._store = store
        self._scanner = scanner
        self._key = key
        self._max_bytes = max_bytes
        self._types = types
        self._writer: FileWriter | None = None
        self._scan: Scan | None = None

    async def receive(self, upload: Upload) -> Content:
        """Read the file to its end and wait for the scanner. It is not in the store yet.

        Raises FileTooLarge, UnsupportedMediaType, InfectedFile, InvalidRequest or Unavailable.
        """
        head, size, digest, media_type = b"", 0, hashlib.sha256(), ""
        async for chunk in upload.chunks():
            size += len(chunk)
            if size > self._max_bytes:
                raise FileTooLarge(f"file: larger than {self._max_bytes} bytes")
            digest.update(chunk)
            if not media_type:
                head += chunk
                if len(head) < SIGNATURE_BYTES:
                    continue
                media_type, chunk = await self._begin(head, upload.name), head
            await self._write(chunk)
        if not media_type:
            media_type = await self._begin(head, upload.name)
            await self._write(head)
        if self._scan is not None:
            await self._scan.finish()
        return Content(size, media_type, digest.hexdigest())

    async def keep(self) -> None:
        """Finish the file in the store."""
        assert self._writer is not None, "nothing was received"
        await self._writer.close()

    async def drop(self) -> None:
        """Remove what was written. Does nothing if the store had nothing."""
        if self._writer is not None:
            self._writer.abort()
            self._writer = None
            await self._store.delete(self._key)

    def close(self) -> None:
        if self._scan is not None:
            self._scan.close()

    async def _begin(self, head: bytes, name: str) -> str:
        media_type = detect_media_type(head, self._types)
        if self._scanner is not None:
            self._scan = await self._scanner.open()
        self._writer = self._store.open_writer(
            self._key, media_type=media_type, disposition=content_disposition(name)
        )
        return media_type

    async def _write(self, chunk: bytes) -> None:
        assert self._writer is not None
        await self._writer.write(chunk)
        if self._scan is not None:
            await self._scan.write(chunk)


def check_sha256(expected: str | None, file: StoredFile) -> None:
    """Raises InvalidRequest if the client has sent another hash."""
    if expected is not None and expected.lower() != file.sha256:
        raise InvalidRequest("sha256: differs from the hash of the content that has arrived")
