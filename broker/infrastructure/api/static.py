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
    loaded = _load(file.path, file.media_type, file.cache_control, CROSS_ORIGIN_HEADERS)

    async def serve(request: web.Request) -> web.Response:
        return loaded.respond(request)

    return serve


def serve_own_file(path: Path, media_type: str) -> Handler:
    """Return a handler that serves a file to pages of its own origin, which revalidate it.

    The file is read at the first request.
    """

    @cache
    def loaded() -> _LoadedFile:
        return _load(path, media_type, "no-cache", {})

    async def serve(request: web.Request) -> web.Response:
        return loaded().respond(request)

    return serve


class _LoadedFile(NamedTuple):
    """tag: the ETag without quotes."""

    content: bytes
    media_type: str
    tag: str
    headers: Mapping[str, str]

    def respond(self, request: web.Request) -> web.Response:
        if is_not_modified(request, self.tag):
            return web.Response(status=304, headers=self.headers)
        return web.Response(
            body=self.content,
            content_type=self.media_type,
            charset="utf-8",
            headers=self.headers,
        )


def _load(
    path: Path, media_type: str, cache_control: str, headers: Mapping[str, str]
) -> _LoadedFile:
    content = path.read_bytes()
    tag = hashlib.sha256(content).hexdigest()[:32]
    own: dict[str, str] = {hdrs.CACHE_CONTROL: cache_control, hdrs.ETAG: f'"{tag}"'}
    return _LoadedFile(content, media_type, tag, {**own, **headers})


def is_not_modified(request: web.Request, tag: str) -> bool:
    """Return whether the client has the file with this ETag."""
    return any(etag.value in (tag, "*") for etag in request.if_none_match or ())
