"""Keys and media types of pictures, and a cache in memory.

A picture is stored once and never changed, so clients may cache it without a limit. Its key
follows from the scene of its code, which has 192 random bits. The key can therefore not be
guessed and does not reveal the scene. A code that is drawn again after a crash has the same key.
"""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping

from broker.infrastructure.fair_queue import FairQueue
from broker.infrastructure.observability.outage import OutageLog
from broker.infrastructure.rate_limit import RateLimit, rate_limit_key
from broker.pool.errors import PicturesUnavailable
from broker.pool.ports import PictureStore

EXTENSIONS: Mapping[str, str] = {"image/jpeg": "jpg", "image/png": "png", "image/svg+xml": "svg"}
"""The media types of pictures, and the extensions of their keys."""

MEDIA_TYPES = {extension: media_type for media_type, extension in EXTENSIONS.items()}

KEY_PATTERN = re.compile(rf"[A-Za-z0-9_-]{{32}}\.({'|'.join(MEDIA_TYPES)})", re.ASCII)

CACHE_CONTROL = "public, max-age=31536000, immutable"

CACHE_MAX_BYTES = 32 * 1024 * 1024
"""About 500 pictures of WeChat. The lowest numbers are leased first, so a few pictures get
most requests."""

MAX_CONCURRENT_FETCHES, FETCHES_SHARE = 32, 4
"""Concurrent fetches of a process, and of one client address: invented keys must neither
flood the store nor delay other clients."""

FETCH_TIMEOUT = 10.0
"""Seconds for which a fetch waits for its turn."""

MISSING_TTL = 10.0
"""Seconds for which a missing picture is cached."""

MISSING_MAX = 10_000
"""Missing keys in memory: about 2 MB."""


def picture_key(scene: str, media_type: str) -> str:
    """Return the key of the picture of `scene`. Raises ValueError for another media type."""
    if media_type not in EXTENSIONS:
        raise ValueError(f"media type {media_type} is not one of {', '.join(EXTENSIONS)}")
    digest = hashlib.sha256(b"the picture of " + scene.encode()).digest()
    return f"{base64.urlsafe_b64encode(digest).decode()[:32]}.{EXTENSIONS[media_type]}"


def is_key(text: str) -> bool:
    return KEY_PATTERN.fullmatch(text) is not None


def media_type_of(key: str) -> str:
    return MEDIA_TYPES[key.rpartition(".")[2]]


class PictureCache:
    """Serves pictures to clients, and caches those that were requested last.

    max_bytes: size of the cache.
    clock: seconds from any start.
    """

    def __init__(
        self,
        pictures: PictureStore,
        *,
        max_bytes: int = CACHE_MAX_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pictures = pictures
        self._max_bytes = max_bytes
        self._cached: OrderedDict[str, bytes] = OrderedDict()
        self._cached_bytes = 0
        self._fetches = FairQueue(
            share=FETCHES_SHARE, total=MAX_CONCURRENT_FETCHES, wait=FETCH_TIMEOUT
        )
        self._missing = RateLimit(1, MISSING_TTL, capacity=MISSING_MAX, clock=clock)
        self._outage = OutageLog("picture store unavailable", "picture store recovered")

    async def get(self, key: str, address: str) -> bytes | None:
        """Return a picture as `PictureStore.get` does. The key may be any text.

        address: the client's address; each address has a share of the fetches.
        Raises PicturesUnavailable and logs the outage.
        """
        if not is_key(key) or self._missing.has_hits(key):
            return None
        if key in self._cached:
            return self._from_cache(key)
        try:
            async with self._fetches.turn(rate_limit_key(address)):
                if key in self._cached or self._missing.has_hits(
                    key
                ):  # another call has fetched it
                    return self._from_cache(key)
                return await self._fetch(key)
        except TimeoutError:
            raise PicturesUnavailable(
                "too many pictures are being fetched", retryable=True
            ) from None

    def _from_cache(self, key: str) -> bytes | None:
        content = self._cached.get(key)
        if content is not None:
            self._cached.move_to_end(key)
        return content

    async def _fetch(self, key: str) -> bytes | None:
        try:
            content = await self._pictures.get(key)
        except PicturesUnavailable as error:
            self._outage.failed(error.reason)
            raise
        self._outage.recovered()
        if content is None:
            self._missing.hit(key)
        else:
            self._store(key, content)
        return content

    def _store(self, key: str, content: bytes) -> None:
        self._cached_bytes += len(content) - len(self._cached.pop(key, b""))
        self._cached[key] = content
        while self._cached_bytes > self._max_bytes:
            self._cached_bytes -= len(self._cached.popitem(last=False)[1])
