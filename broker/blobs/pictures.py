"""Stores the pictures of codes in a folder or in an object store such as S3."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError
from obstore.store import LocalStore

from broker.blobs.object_store import (
    STORE_ERRORS,
    LazyStore,
    describe_failure,
    ignore_missing_key,
)
from broker.pool.errors import PicturesUnavailable
from broker.pool.pictures import CACHE_CONTROL, media_type_of

if TYPE_CHECKING:
    from obstore import PutMode
    from obstore.store import ObjectStore


REQUEST_TIMEOUT = 5.0
"""Seconds for one request, including the connection."""


class ObjectPictureStore:
    """Pictures in a folder or a bucket. Credentials come from the environment.

    url: the folder or bucket, with one of `SCHEMES`.
    public_url: the prefix of the URLs at which browsers fetch pictures.
    endpoint: the URL of an S3-compatible store. If its host begins with the bucket's name,
        requests use virtual-hosted-style URLs.

    Raises ValueError for an invalid URL.
    """

    def __init__(self, url: str, *, public_url: str, endpoint: str = "") -> None:
        self.location = url
        self._public_url = public_url.rstrip("/")
        self._opened = LazyStore(url, endpoint=endpoint, timeout=REQUEST_TIMEOUT)

    def url(self, key: str) -> str:
        """Return the URL at which browsers fetch the picture."""
        return f"{self._public_url}/{key}"

    async def put(self, key: str, content: bytes) -> None:
        """Store `content` unless the key has a picture. Raises PicturesUnavailable."""
        with self._request("put"):
            try:
                await self._put(key, content, mode="create")
            except AlreadyExistsError:
                pass
            except NotImplementedError:  # AWS_CONDITIONAL_PUT=disabled
                await self._put(key, content, mode="overwrite")

    async def get(self, key: str) -> bytes | None:
        """Return the picture, None if there is none. Raises PicturesUnavailable."""
        with self._request("get"), ignore_missing_key():
            found = await obstore.get_async(self._store, key)
            return bytes(await found.bytes_async())
        return None

    async def remove(self, key: str) -> None:
        """Delete the picture if there is one. Raises PicturesUnavailable."""
        with self._request("remove"), ignore_missing_key():
            await obstore.delete_async(self._store, key)

    async def _put(self, key: str, content: bytes, *, mode: PutMode) -> None:
        attributes = {"Content-Type": media_type_of(key), "Cache-Control": CACHE_CONTROL}
        is_folder = isinstance(self._store, LocalStore)
        await obstore.put_async(
            self._store, key, content, mode=mode, attributes=None if is_folder else attributes
        )

    @property
    def _store(self) -> ObjectStore:
        return self._opened.store

    @contextmanager
    def _request(self, act: str) -> Iterator[None]:
        try:
            yield
        except STORE_ERRORS as error:
            reason, retryable = describe_failure(error)
            raise PicturesUnavailable(
                f"picture store {self.location}: {act} failed: {reason}", retryable=retryable
            ) from None
