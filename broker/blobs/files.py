"""Stores the files of mini programs in a folder or in an object store such as S3."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, cast

import obstore
from obstore.store import LocalStore

from broker.blobs.object_store import (
    STORE_ERRORS,
    LazyStore,
    describe_failure,
    ignore_missing_key,
    is_missing_bucket,
)
from broker.files.errors import FilesUnavailable, UnknownFile

if TYPE_CHECKING:
    from obstore import AsyncWritableFile
    from obstore.store import ObjectStore, S3Store

REQUEST_TIMEOUT = 30.0
"""Seconds for one request, including the connection. A request sends up to `BUFFER_BYTES`."""

BUFFER_BYTES = 8 * 1024 * 1024
"""Bytes of a file that wait in memory. A larger file is sent in parts of this size; the parts of
S3 have at least 5 MiB."""

CONCURRENT_PARTS = 1
"""Parts of one file that are sent at a time, so that a file needs one buffer."""

READ_BYTES = 64 * 1024

LIST_KEYS = 500
"""Keys of a step of `keys_before`."""


class ObjectFileStore:
    """Implements `FileStore`. Credentials come from the environment.

    url, endpoint: see `LazyStore`. Raises ValueError for an invalid URL.
    """

    def __init__(self, url: str, *, endpoint: str = "") -> None:
        self.location = url
        self._opened = LazyStore(url, endpoint=endpoint, timeout=REQUEST_TIMEOUT)

    def open_writer(self, key: str, *, media_type: str, disposition: str) -> ObjectFileWriter:
        attributes = {"Content-Type": media_type, "Content-Disposition": disposition}
        with self._request("open"):
            file = obstore.open_writer_async(
                self._store,
                key,
                attributes=None if isinstance(self._store, LocalStore) else attributes,
                buffer_size=BUFFER_BYTES,
                max_concurrency=CONCURRENT_PARTS,
            )
        return ObjectFileWriter(file, self.location)

    async def read(self, key: str, start: int, end: int) -> AsyncGenerator[bytes]:
        with self._request("read"):
            try:
                found = await obstore.get_async(self._store, key, options={"range": (start, end)})
            except FileNotFoundError as error:
                if is_missing_bucket(error):
                    raise
                raise UnknownFile from None
            async for chunk in found.stream(min_chunk_size=READ_BYTES):
                yield bytes(chunk)

    async def delete(self, key: str) -> None:
        with self._request("delete"), ignore_missing_key():
            await obstore.delete_async(self._store, key)

    async def sign_url(self, key: str, *, seconds: int) -> str:
        with self._request("sign"):
            store = cast("S3Store", self._store)  # a folder raises ValueError
            return await obstore.sign_async(store, "GET", key, timedelta(seconds=seconds))

    async def keys_before(self, time: float) -> AsyncIterator[Sequence[str]]:
        with self._request("list"):
            async for found in obstore.list(self._store, chunk_size=LIST_KEYS):
                yield [one["path"] for one in found if one["last_modified"].timestamp() < time]

    async def delete_unfinished(self, before: float) -> None:
        with self._request("clean"):
            await self._opened.delete_unfinished(before)

    @property
    def _store(self) -> ObjectStore:
        return self._opened.store

    @contextmanager
    def _request(self, act: str) -> Iterator[None]:
        with _failures(self.location, act):
            yield


class ObjectFileWriter:
    """Implements `FileWriter`. The store drops the parts of a writer that is not closed.

    Parts of a process that has crashed are kept: in a folder until `delete_unfinished`, in a bucket
    until its own rule deletes them.
    """

    def __init__(self, file: AsyncWritableFile, location: str) -> None:
        self._file: AsyncWritableFile | None = file
        self._location = location

    async def write(self, data: bytes) -> None:
        assert self._file is not None, "the writer was aborted"
        with _failures(self._location, "write"):
            await self._file.write(data)

    async def close(self) -> None:
        assert self._file is not None, "the writer was aborted"
        with _failures(self._location, "close"):
            await self._file.close()

    def abort(self) -> None:
        self._file = None


@contextmanager
def _failures(location: str, act: str) -> Iterator[None]:
    try:
        yield
    except STORE_ERRORS as error:
        reason, _ = describe_failure(error)
        raise FilesUnavailable(f"file store {location}: {act} failed: {reason}") from None
