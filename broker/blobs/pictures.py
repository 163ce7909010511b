"""Stores the pictures of codes in a folder or in an object store such as S3."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import LocalStore, from_url

from broker.blobs import SCHEMES
from broker.pool.errors import PicturesUnavailable
from broker.pool.pictures import CACHE_CONTROL, media_type_of

if TYPE_CHECKING:
    from obstore import PutMode
    from obstore.store import ClientConfig, ObjectStore, RetryConfig, S3Config


REQUEST_TIMEOUT = 5.0
"""Seconds for one request, including the connection."""

CLIENT_CONFIG: ClientConfig = {
    "allow_http": True,  # for local stores; requests are signed, and pictures are public
    "connect_timeout": timedelta(seconds=2),
    "timeout": timedelta(seconds=REQUEST_TIMEOUT),
}

RETRY_CONFIG: RetryConfig = {
    "max_retries": 2,
    "retry_timeout": timedelta(seconds=REQUEST_TIMEOUT),
    "backoff": {
        "init_backoff": timedelta(milliseconds=100),
        "max_backoff": timedelta(seconds=1),
        "base": 2,
    },
}


class ObjectPictureStore:
    """Pictures in a folder or a bucket. Credentials come from the environment.

    url: the folder or bucket, with one of `SCHEMES`.
    public_url: the prefix of the URLs at which browsers fetch pictures.
    endpoint: the URL of an S3-compatible store. If its host begins with the bucket's name,
        requests use virtual-hosted-style URLs.

    Raises ValueError for an invalid URL.
    """

    def __init__(self, url: str, *, public_url: str, endpoint: str = "") -> None:
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES:
            raise ValueError(f"scheme must be one of {', '.join(SCHEMES)}")
        self.location = url
        self._public_url = public_url.rstrip("/")
        self._config = _s3(parts.netloc, endpoint) if endpoint else None
        if parts.scheme != "file":  # a folder is created on first use
            try:
                _ = self._store
            except (BaseError, ValueError) as error:
                raise ValueError(_line(error)) from None

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
        with self._request("get"), _ignore_missing_key():
            found = await obstore.get_async(self._store, key)
            return bytes(await found.bytes_async())
        return None

    async def remove(self, key: str) -> None:
        """Delete the picture if there is one. Raises PicturesUnavailable."""
        with self._request("remove"), _ignore_missing_key():
            await obstore.delete_async(self._store, key)

    async def _put(self, key: str, content: bytes, *, mode: PutMode) -> None:
        attributes = {"Content-Type": media_type_of(key), "Cache-Control": CACHE_CONTROL}
        is_folder = isinstance(self._store, LocalStore)
        await obstore.put_async(
            self._store, key, content, mode=mode, attributes=None if is_folder else attributes
        )

    @cached_property
    def _store(self) -> ObjectStore:
        parts = urlsplit(self.location)
        if parts.scheme == "file":
            return LocalStore(Path(unquote(parts.path)), mkdir=True)
        return from_url(
            self.location,
            config=self._config,
            client_options=CLIENT_CONFIG,
            retry_config=RETRY_CONFIG,
        )

    @contextmanager
    def _request(self, act: str) -> Iterator[None]:
        try:
            yield
        except (BaseError, OSError, ValueError) as error:
            advice, retryable = _advice(error)
            raise PicturesUnavailable(
                f"picture store {self.location}: {act} failed: {advice}{_line(error)}",
                retryable=retryable,
            ) from None


@contextmanager
def _ignore_missing_key() -> Iterator[None]:
    """Ignore that a key is missing, but not that its bucket is."""
    try:
        yield
    except FileNotFoundError as error:
        if "NoSuchBucket" in str(error):
            raise


def _s3(bucket: str, endpoint: str) -> S3Config:
    """Return the settings of an endpoint. Tencent and Alibaba require the bucket in the host."""
    host = urlsplit(endpoint).hostname or ""
    return {
        "endpoint": endpoint.rstrip("/"),
        "virtual_hosted_style_request": host.startswith(f"{bucket}."),
    }


def _advice(error: Exception) -> tuple[str, bool]:
    """Return a remedy for the operator, and whether a retry may succeed."""
    if isinstance(error, FileNotFoundError):
        return "bucket not found; create it or correct its name: ", False
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return "access denied; check the credentials in the environment: ", False
    if isinstance(error, OSError | ValueError):
        return "", False
    return "", True


def _line(error: Exception) -> str:
    """Return the store's message as one line, without queries of URLs: they may be signatures."""
    message = str(error).partition("Debug source")[0]
    return re.sub(r"\?\S+", "", " ".join(message.split()))[:400]
