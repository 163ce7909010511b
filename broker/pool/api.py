"""The endpoint of pictures."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import hdrs

from broker.infrastructure.api.static import CROSS_ORIGIN_HEADERS
from broker.pool.pictures import CACHE_CONTROL

PICTURE_HEADERS: Mapping[str, str] = {
    **CROSS_ORIGIN_HEADERS,
    hdrs.CACHE_CONTROL: CACHE_CONTROL,
    # An SVG that is opened by itself is a page: it may do nothing.
    "Content-Security-Policy": "default-src 'none'; sandbox",
}
