"""The endpoint of the pictures of pool codes."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import hdrs, web

from broker.infrastructure.api.client_address import ClientAddresses
from broker.infrastructure.api.endpoint import PUBLIC, Endpoint
from broker.infrastructure.api.static import CROSS_ORIGIN_HEADERS, is_not_modified
from broker.pool.errors import PictureNotFound, PicturesUnavailable
from broker.pool.pictures import CACHE_CONTROL, PictureCache, media_type_of

PICTURE_HEADERS: Mapping[str, str] = {
    **CROSS_ORIGIN_HEADERS,
    hdrs.CACHE_CONTROL: CACHE_CONTROL,
    # A browser that opens an SVG runs its scripts.
    "Content-Security-Policy": "default-src 'none'; sandbox",
}


class PicturesAPI:
    def __init__(self, *, pictures: PictureCache, addresses: ClientAddresses) -> None:
        self._pictures = pictures
        self._addresses = addresses

    async def show(self, request: web.Request, key: str) -> web.Response:
        """Return the picture; its ETag is its key, because the picture of a key never changes."""
        content = await self._pictures.get(key, self._addresses.of(request))
        if content is None:
            raise PictureNotFound
        headers = {**PICTURE_HEADERS, hdrs.ETAG: f'"{key}"'}
        if is_not_modified(request, key):
            return web.Response(status=304, headers=headers)
        return web.Response(body=content, content_type=media_type_of(key), headers=headers)


ENDPOINTS = [
    Endpoint(
        "GET",
        "/codes/{key}",
        PicturesAPI.show,
        role=PUBLIC,
        operation_id="getCodePicture",
        summary="The picture of a code that was drawn in advance",
        response="image/*",
        errors=(PictureNotFound, PicturesUnavailable),
    ),
]
