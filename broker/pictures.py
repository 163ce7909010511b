"""Keeps the pictures of codes: in a folder, or in a store such as S3.

A picture is put once and never changed: whoever has it may keep it for ever.  Its key
follows from its code's scene, which has 192 random bits.  So nobody guesses one, the
key tells nobody the scene, and a code that is drawn once more after a crash has the key
that it had.
"""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import LocalStore, from_url

from broker.errors import PicturesDown
from broker.limits import FairQueue, RateLimit, rate_limit_key
from broker.outage import Outage

if TYPE_CHECKING:
    from obstore import PutMode
    from obstore.store import ClientConfig, ObjectStore, RetryConfig, S3Config

SCHEMES = ("az", "file", "gs", "s3")
"""How a pictures' URL begins."""

ENDINGS: Mapping[str, str] = {"image/jpeg": "jpg", "image/png": "png", "image/svg+xml": "svg"}
"""What a picture may be, and how its key ends."""

MEDIA_TYPES = {ending: media_type for media_type, ending in ENDINGS.items()}
KEY = re.compile(rf"[A-Za-z0-9_-]{{32}}\.({'|'.join(MEDIA_TYPES)})", re.ASCII)

CACHE_CONTROL = "public, max-age=31536000, immutable"

ANSWER_WITHIN = 5.0
"""Seconds for one request, connecting included."""

CLIENT: ClientConfig = {
    "allow_http": True,  # a store of one's own; requests are signed, and pictures are for all
    "connect_timeout": timedelta(seconds=2),
    "timeout": timedelta(seconds=ANSWER_WITHIN),
}
RETRY: RetryConfig = {
    "max_retries": 2,
    "retry_timeout": timedelta(seconds=ANSWER_WITHIN),
    "backoff": {
        "init_backoff": timedelta(milliseconds=100),
        "max_backoff": timedelta(seconds=1),
        "base": 2,
    },
}

ROOM_BYTES = 32 * 1024 * 1024
"""Pictures that a process keeps in memory: some 500 of WeChat's, and the lowest numbers'
are asked for again and again."""

FETCHES, FETCHES_SHARE = 32, 4
"""Concurrent fetches of a process, and of one address: made-up keys must neither flood the
store nor delay other clients."""

FETCH_TIMEOUT = 10.0
"""Seconds that a fetch may wait for its turn."""

MISSING_TTL = 10.0
"""Seconds for which a missing picture is cached."""

MISSING_MAX = 10_000
"""Such keys in memory: about 2 MB."""


def key_of(scene: str, media_type: str) -> str:
    """The key of the picture of `scene`; raises ValueError for what is no picture."""
    if media_type not in ENDINGS:
        raise ValueError(f"{media_type} is none of {', '.join(ENDINGS)}")
    digest = hashlib.sha256(b"the picture of " + scene.encode()).digest()
    return f"{base64.urlsafe_b64encode(digest).decode()[:32]}.{ENDINGS[media_type]}"


def is_key(text: str) -> bool:
    return KEY.fullmatch(text) is not None


def media_type_of(key: str) -> str:
    return MEDIA_TYPES[key.rpartition(".")[2]]


class PictureStore(Protocol):
    """Stores the pictures of codes under keys (see `key_of`)."""

    def url(self, key: str) -> str:
        """Return the URL at which browsers fetch the picture."""
        ...

    async def put(self, key: str, content: bytes) -> None:
        """Store `content` under `key` unless the key has a picture.  Raises PicturesDown."""
        ...

    async def get(self, key: str) -> bytes | None:
        """Return the picture, None if there is none.  Raises PicturesDown."""
        ...

    async def remove(self, key: str) -> None:
        """Delete the picture if there is one.  Raises PicturesDown."""
        ...


class Pictures:
    """url: see `SCHEMES`; credentials are the environment's.  endpoint: where a store is
    that speaks S3 and is not Amazon's; with the bucket before its host, or without.
    public_url: what stands before a key where browsers ask.

    Raises ValueError for a URL that names nothing.
    """

    def __init__(self, url: str, *, public_url: str, endpoint: str = "") -> None:
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES:
            raise ValueError(f"want a URL that begins with one of {', '.join(SCHEMES)}")
        self.place = url
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
        """Keep `content` under `key`; what is there already stays.  Raises PicturesDown."""
        with self._reached("put"):
            try:
                await self._put(key, content, mode="create")
            except AlreadyExistsError:
                pass
            except NotImplementedError:  # the store was said to know no such condition
                await self._put(key, content, mode="overwrite")

    async def get(self, key: str) -> bytes | None:
        """What is kept under `key`; None where nothing is.  Raises PicturesDown."""
        with self._reached("get"), _if_there():
            found = await obstore.get_async(self._store, key)
            return bytes(await found.bytes_async())
        return None

    async def remove(self, key: str) -> None:
        """Let go of it, if it is there.  Raises PicturesDown."""
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
        parts = urlsplit(self.place)
        if parts.scheme == "file":
            return LocalStore(Path(unquote(parts.path)), mkdir=True)
        return from_url(self.place, config=self._config, client_options=CLIENT, retry_config=RETRY)

    @contextmanager
    def _reached(self, act: str) -> Iterator[None]:
        try:
            yield
        except (BaseError, OSError, ValueError) as error:
            cure, passes = _cure(error)
            raise PicturesDown(
                f"the pictures in {self.place} cannot be used ({act}): {cure}{_line(error)}",
                passes=passes,
            ) from None


class Shown:
    """Pictures as a process shows them: what was asked for last is kept in memory."""

    def __init__(
        self,
        pictures: PictureStore,
        *,
        room_bytes: int = ROOM_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """clock: seconds from any start."""
        self._pictures = pictures
        self._room_bytes = room_bytes
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._kept_bytes = 0
        self._fetches = FairQueue(share=FETCHES_SHARE, total=FETCHES, wait=FETCH_TIMEOUT)
        self._missing = RateLimit(1, MISSING_TTL, capacity=MISSING_MAX, clock=clock)
        self._outage = Outage("the pictures cannot be reached", "the pictures are back")

    async def get(self, key: str, address: str) -> bytes | None:
        """As `PictureStore.get`, for an untrusted key; logs an outage.

        address: the client's, which has its share of fetches.
        """
        if not is_key(key) or self._missing.has_hits(key):
            return None
        if key in self._kept:
            return self._in_memory(key)
        try:
            async with self._fetches.turn(rate_limit_key(address)):
                if key in self._kept or self._missing.has_hits(key):  # another call has fetched it
                    return self._in_memory(key)
                return await self._fetch(key)
        except TimeoutError:
            raise PicturesDown("too many pictures are being fetched", passes=True) from None

    def _in_memory(self, key: str) -> bytes | None:
        content = self._kept.get(key)
        if content is not None:
            self._kept.move_to_end(key)
        return content

    async def _fetch(self, key: str) -> bytes | None:
        try:
            content = await self._pictures.get(key)
        except PicturesDown as error:
            self._outage.fails(error.reason)
            raise
        self._outage.is_over()
        if content is None:
            self._missing.hit(key)
        else:
            self._keep(key, content)
        return content

    def _keep(self, key: str, content: bytes) -> None:
        self._kept_bytes += len(content) - len(self._kept.pop(key, b""))
        self._kept[key] = content
        while self._kept_bytes > self._room_bytes:
            self._kept_bytes -= len(self._kept.popitem(last=False)[1])


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


def _cure(error: Exception) -> tuple[str, bool]:
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
