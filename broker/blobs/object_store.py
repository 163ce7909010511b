"""Opens a folder or an object store, and describes its failures."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import LocalStore, from_url

from broker.blobs import SCHEMES

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig, S3Config

STORE_ERRORS = (BaseError, OSError, ValueError)
"""Exceptions that a request to a store raises."""

UNFINISHED_NAME = re.compile(r".+#\d+")
"""obstore writes a file under such a name in its folder, and renames it at the end. It does not
list these names, and refuses to delete them."""


class LazyStore:
    """A folder or a bucket. A folder is created on first use.

    url: with one of `SCHEMES`.
    endpoint: the URL of an S3-compatible store. If its host begins with the bucket's name,
        requests use virtual-hosted-style URLs.
    timeout: seconds for one request, including the connection.

    Raises ValueError for an invalid URL.
    """

    def __init__(self, url: str, *, endpoint: str, timeout: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES:
            raise ValueError(f"scheme must be one of {', '.join(SCHEMES)}")
        self._url = url
        self._timeout = timeout
        self._config = _s3(parts.netloc, endpoint) if endpoint else None
        if parts.scheme != "file":
            try:
                _ = self.store
            except (BaseError, ValueError) as error:
                raise ValueError(_line(error)) from None

    @property
    def _folder(self) -> Path | None:
        """The folder; None if this is a bucket."""
        parts = urlsplit(self._url)
        return Path(unquote(parts.path)) if parts.scheme == "file" else None

    @cached_property
    def store(self) -> ObjectStore:
        if self._folder is not None:
            return LocalStore(self._folder, mkdir=True)
        return from_url(
            self._url,
            config=self._config,
            client_options=_client(self._timeout),
            retry_config=_retries(self._timeout),
        )

    async def delete_unfinished(self, before: float) -> None:
        """Delete what killed processes have left of files, if last written before `before`.

        Only a folder has such files. A bucket has a rule for incomplete uploads.
        """
        if self._folder is not None:
            await asyncio.to_thread(_delete_unfinished, self._folder, before)


def _delete_unfinished(folder: Path, before: float) -> None:
    for path in folder.rglob("*#*"):
        with suppress(FileNotFoundError):  # it has been finished or dropped
            if UNFINISHED_NAME.fullmatch(path.name) and path.stat().st_mtime < before:
                path.unlink()


def _client(timeout: float) -> ClientConfig:
    return {
        "allow_http": True,  # for local stores; requests are signed
        "connect_timeout": timedelta(seconds=2),
        "timeout": timedelta(seconds=timeout),
    }


def _retries(timeout: float) -> RetryConfig:
    return {
        "max_retries": 2,
        "retry_timeout": timedelta(seconds=timeout),
        "backoff": {
            "init_backoff": timedelta(milliseconds=100),
            "max_backoff": timedelta(seconds=1),
            "base": 2,
        },
    }


def _s3(bucket: str, endpoint: str) -> S3Config:
    """Return the settings of an endpoint. Tencent and Alibaba require the bucket in the host."""
    host = urlsplit(endpoint).hostname or ""
    return {
        "endpoint": endpoint.rstrip("/"),
        "virtual_hosted_style_request": host.startswith(f"{bucket}."),
    }


@contextmanager
def ignore_missing_key() -> Iterator[None]:
    """Ignore that a key is missing, but not that its bucket is."""
    try:
        yield
    except FileNotFoundError as error:
        if is_missing_bucket(error):
            raise


def is_missing_bucket(error: FileNotFoundError) -> bool:
    return "NoSuchBucket" in str(error)


def describe_failure(error: Exception) -> tuple[str, bool]:
    """Return the failure and its remedy for the operator, and whether a retry may succeed."""
    advice, retryable = _advice(error)
    return f"{advice}{_line(error)}", retryable


def _advice(error: Exception) -> tuple[str, bool]:
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
