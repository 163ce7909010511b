"""Keys and media types of pictures, and a cache in memory."""

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
"""What a picture may be, and how its key ends."""

MEDIA_TYPES = {ending: media_type for media_type, ending in EXTENSIONS.items()}

KEY_PATTERN = re.compile(rf"[A-Za-z0-9_-]{{32}}\.({'|'.join(MEDIA_TYPES)})", re.ASCII)

CACHE_CONTROL = "public, max-age=31536000, immutable"

CACHE_MAX_BYTES = 32 * 1024 * 1024
"""Pictures that a process keeps in memory: some 500 of WeChat's, and the lowest numbers'
are asked for again and again."""

MAX_CONCURRENT_FETCHES, FETCHES_SHARE = 32, 4
"""Concurrent fetches of a process, and of one address: made-up keys must neither flood the
store nor delay other clients."""

FETCH_TIMEOUT = 10.0
"""Seconds that a fetch may wait for its turn."""

MISSING_TTL = 10.0
"""Seconds for which a missing picture is cached."""

MISSING_MAX = 10_000
"""Such keys in memory: about 2 MB."""


def picture_key(scene: str, media_type: str) -> str:
    """The key of the picture of `scene`; raises ValueError for what is no picture."""
    if media_type not in EXTENSIONS:
        raise ValueError(f"{media_type} is none of {', '.join(EXTENSIONS)}")
    digest = hashlib.sha256(b"the picture of " + scene.encode()).digest()
    return f"{base64.urlsafe_b64encode(digest).decode()[:32]}.{EXTENSIONS[media_type]}"


def is_key(text: str) -> bool:
    return KEY_PATTERN.fullmatch(text) is not None


def media_type_of(key: str) -> str:
    return MEDIA_TYPES[key.rpartition(".")[2]]


class PictureCache:
    """Pictures as a process shows them: what was asked for last is kept in memory."""

    def __init__(
        self,
        pictures: PictureStore,
        *,
        room_bytes: int = CACHE_MAX_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """clock: seconds from any start."""
        self._pictures = pictures
        self._room_bytes = room_bytes
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._kept_bytes = 0
        self._fetches = FairQueue(
            share=FETCHES_SHARE, total=MAX_CONCURRENT_FETCHES, wait=FETCH_TIMEOUT
        )
        self._missing = RateLimit(1, MISSING_TTL, capacity=MISSING_MAX, clock=clock)
        self._outage = OutageLog("the pictures cannot be reached", "the pictures are back")

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
            raise PicturesUnavailable(
                "too many pictures are being fetched", retryable=True
            ) from None

    def _in_memory(self, key: str) -> bytes | None:
        content = self._kept.get(key)
        if content is not None:
            self._kept.move_to_end(key)
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
            self._keep(key, content)
        return content

    def _keep(self, key: str, content: bytes) -> None:
        self._kept_bytes += len(content) - len(self._kept.pop(key, b""))
        self._kept[key] = content
        while self._kept_bytes > self._room_bytes:
            self._kept_bytes -= len(self._kept.popitem(last=False)[1])
