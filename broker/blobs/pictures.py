"""Keeps the pictures of codes: in a folder, or in a store such as S3.

A picture is put once and never changed: whoever has it may keep it for ever.  Its key
follows from its code's scene, which has 192 random bits.  So nobody guesses one, the
key tells nobody the scene, and a code that is drawn once more after a crash has the key
that it had.
"""

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
"""Seconds for one request, connecting included."""

CLIENT_CONFIG: ClientConfig = {
    "allow_http": True,  # a store of one's own; requests are signed, and pictures are for all
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
    """url: see `SECURITY_SCHEMES`; credentials are the environment's.  endpoint: where a store is
    that speaks S3 and is not Amazon's; with the bucket before its host, or without.
    public_url: what stands before a key where browsers ask.

    Raises ValueError for a URL that names nothing.
    """

    def __init__(self, url: str, *, public_url: str, endpoint: str = "") -> None:
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES:
            raise ValueError(f"want a URL that begins with one of {', '.join(SCHEMES)}")
        self.location = url
        self._public_url = public_url.rstrip("/")
        self._config = _s3(parts.netloc, endpoint) if endpoint else None
        if parts.scheme != "file":  # a folder is made when it is needed
            try:
                _ = self._store
            except (BaseError, ValueError) as error:
                raise ValueError(_line(error)) from None

    def url(self, key: str) -> str:
        """Where a browser finds it."""
        return f"{self._public_url}/{key}"

    async def put(self, key: str, content: bytes) -> None:
        """Keep `content` under `key`; what is there already stays.  Raises PicturesUnavailable."""
        with self._reached("put"):
            try:
                await self._put(key, content, mode="create")
            except AlreadyExistsError:
                pass
            except NotImplementedError:  # the store was said to know no such condition
                await self._put(key, content, mode="overwrite")

    async def get(self, key: str) -> bytes | None:
        """What is kept under `key`; None where nothing is.  Raises PicturesUnavailable."""
        with self._reached("get"), _if_there():
            found = await obstore.get_async(self._store, key)
            return bytes(await found.bytes_async())
        return None

    async def remove(self, key: str) -> None:
        """Let go of it, if it is there.  Raises PicturesUnavailable."""
        with self._reached("remove"), _if_there():
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
    def _reached(self, act: str) -> Iterator[None]:
        try:
            yield
        except (BaseError, OSError, ValueError) as error:
            cure, retryable = _advice(error)
            raise PicturesUnavailable(
                f"the pictures in {self.location} cannot be used ({act}): {cure}{_line(error)}",
                retryable=retryable,
            ) from None


@contextmanager
def _if_there() -> Iterator[None]:
    """Nothing under a key is no trouble; no bucket for it is."""
    try:
        yield
    except FileNotFoundError as error:
        if "NoSuchBucket" in str(error):
            raise


def _s3(bucket: str, endpoint: str) -> S3Config:
    """How obstore is told of an endpoint; Tencent's and Alibaba's want the bucket in the host."""
    host = urlsplit(endpoint).hostname or ""
    return {
        "endpoint": endpoint.rstrip("/"),
        "virtual_hosted_style_request": host.startswith(f"{bucket}."),
    }


def _advice(error: Exception) -> tuple[str, bool]:
    """What the operator should do, and whether the trouble may pass by itself."""
    if isinstance(error, FileNotFoundError):
        return "there is no such bucket; make it, or correct its name: ", False
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return "it refuses our credentials; look at the environment's: ", False
    if isinstance(error, OSError | ValueError):
        return "", False
    return "", True


def _line(error: Exception) -> str:
    """What the store says, in a line, without the query of a URL: it may be a signature."""
    said = str(error).partition("Debug source")[0]
    return re.sub(r"\?\S+", "", " ".join(said.split()))[:400]
