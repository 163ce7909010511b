"""Static files, served from memory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from aiohttp import hdrs, web

from broker.infrastructure.api.responses import Handler


class StaticFile(NamedTuple):
    """A file to serve.

    max_age: seconds for which a client may use it without a request.
    immutable: whether the content at this URL never changes (RFC 8246).
    """

    path: Path
    media_type: str
    max_age: int
    immutable: bool = False

    @property
    def cache_control(self) -> str:
        return f"public, max-age={self.max_age}" + ", immutable" * self.immutable


CROSS_ORIGIN_HEADERS: Mapping[str, str] = {
    hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
}


def serve_static(file: StaticFile) -> Handler:
    """Return a handler that serves `file` from memory, to pages of any origin."""
    content = file.path.read_bytes()
    tag = hashlib.sha256(content).hexdigest()[:32]
    headers = {
        hdrs.CACHE_CONTROL: file.cache_control,
        hdrs.ETAG: f'"{tag}"',
        **CROSS_ORIGIN_HEADERS,
    }

    async def serve(request: web.Request) -> web.Response:
        if is_not_modified(request, tag):
            return web.Response(status=304, headers=headers)
        return web.Response(
            body=content, content_type=file.media_type, charset="utf-8", headers=headers
        )

    return serve


def serve_own_file(path: Path, media_type: str) -> Handler:
    """Return a handler that serves a file to pages of its own origin, which revalidate it.

    The file is read at the first request.
    """

    @cache
    def read() -> tuple[bytes, str]:
        content = path.read_bytes()
        return content, hashlib.sha256(content).hexdigest()[:32]

    async def serve(request: web.Request) -> web.Response:
        content, tag = read()
        headers = {hdrs.CACHE_CONTROL: "no-cache", hdrs.ETAG: f'"{tag}"'}
        if is_not_modified(request, tag):
            return web.Response(status=304, headers=headers)
        return web.Response(body=content, content_type=media_type, charset="utf-8", headers=headers)

    return serve


def is_not_modified(request: web.Request, tag: str) -> bool:
    """Return whether the client has the file with this ETag."""
    return any(etag.value in (tag, "*") for etag in request.if_none_match or ())
