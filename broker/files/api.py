"""Files for phones and for apps' own servers: endpoints at and below `/files`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from time import perf_counter
from typing import Annotated, Any, NotRequired

import structlog
from aiohttp import hdrs, web
from pydantic import StringConstraints

from broker.apps.authentication import SERVER, AppScopedRequest
from broker.apps.model import App
from broker.errors import Unavailable
from broker.files.authentication import HOLDER, URL_OR_HOLDER
from broker.files.errors import (
    FileRefused,
    FileTooLarge,
    InfectedFile,
    QuotaExceeded,
    RangeNotSatisfiable,
    TooManyUploads,
    UnknownFile,
    UnsupportedMediaType,
)
from broker.files.limits import ReadLimits
from broker.files.metrics import BYTES, DOWNLOAD, SECONDS, UPLOAD
from broker.files.model import StoredFile
from broker.files.multipart import MultipartUpload
from broker.files.ports import FileStore
from broker.files.rules import ByteRange, content_disposition, parse_range
from broker.files.service import PAGE, FileService, Holder
from broker.files.urls import URL_TTL, FileURLs
from broker.infrastructure.api.endpoint import QUERY, Endpoint
from broker.infrastructure.api.schema import Count, OpenidField, RequestModel, ResponseModel
from broker.infrastructure.api.static import is_not_modified
from broker.infrastructure.base64url import BITS_256

log = structlog.get_logger()

FILE_HEADERS: Mapping[str, str] = {
    "Cross-Origin-Resource-Policy": "cross-origin",  # pages of sites show pictures
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "X-Content-Type-Options": "nosniff",
    hdrs.CACHE_CONTROL: "private",
    hdrs.ACCEPT_RANGES: "bytes",
}

WRITE_TIMEOUT = 30.0
"""Seconds in which a client must take a part of a download."""


class FileURLQuery(RequestModel):
    """The signature of a URL: `t` over the file's id and `e`, a Unix time."""

    t: Annotated[str, StringConstraints(pattern=rf"^{BITS_256}$")] | None = None
    e: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,12}$")] | None = None


class FileListQuery(AppScopedRequest):
    """openid: only files of this person.  after: the `next` of the previous page."""

    openid: OpenidField | None = None
    after: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{22}$")] | None = None


class UploadedFileResponse(ResponseModel):
    file_id: str
    size: Count
    media_type: str
    sha256: str
    url: str
    expires_in: Count


class FileOwnerView(ResponseModel):
    """openid: empty for a file of the app itself."""

    openid: str
    subject: NotRequired[str]


class FileResponse(UploadedFileResponse):
    """created_at: Unix time in seconds."""

    purpose: NotRequired[str]
    name: NotRequired[str]
    owner: FileOwnerView
    created_at: float


class FileListResponse(ResponseModel):
    files: list[FileResponse]
    next: NotRequired[str]


class FilesAPI:
    """Files over HTTP. A caller is a person, an app, or the file of a signed URL.

    is_direct: whether downloads are redirected to signed URLs of the store.
    """

    def __init__(
        self,
        *,
        service: FileService,
        store: FileStore,
        urls: FileURLs,
        reads: ReadLimits,
        is_direct: bool,
    ) -> None:
        self._service = service
        self._store = store
        self._urls = urls
        self._reads = reads
        self._is_direct = is_direct

    async def upload(self, http: web.Request, holder: Holder) -> UploadedFileResponse:
        with SECONDS.labels(UPLOAD).time():
            file = await self._service.upload(holder, MultipartUpload(http))
        return self._uploaded(file)

    async def download(
        self, http: web.Request, holder: Holder | None, query: FileURLQuery, file_id: str
    ) -> web.StreamResponse:
        if holder is None:
            self._urls.check(file_id, query.t or "", query.e or "0")
        caller = file_id if holder is None else holder.key
        async with self._reads.reading(caller):
            file = await self._find(holder, file_id)
            url = await self._store.sign_url(file.key, seconds=URL_TTL) if self._is_direct else None
        if url is not None:
            headers = {hdrs.LOCATION: url, hdrs.CACHE_CONTROL: "no-store"}
            return web.Response(status=302, headers=headers)
        return await self._send(http, file, caller)

    async def describe(self, http: web.Request, holder: Holder, file_id: str) -> FileResponse:
        async with self._reads.reading(holder.key):
            file = await self._service.get(holder, file_id)
        return self._view(file)

    async def delete(self, http: web.Request, holder: Holder, file_id: str) -> None:
        async with self._reads.reading(holder.key):
            await self._service.delete(holder, file_id)

    async def list(self, app: App, query: FileListQuery) -> FileListResponse:
        async with self._reads.reading(app.key):
            files = await self._service.list(app, query.openid, query.after or "")
        response: FileListResponse = {"files": [self._view(file) for file in files]}
        if len(files) == PAGE:
            response["next"] = files[-1].id
        return response

    async def _find(self, holder: Holder | None, file_id: str) -> StoredFile:
        """Return the file of a signed URL, or one that the holder may read."""
        if holder is None:
            return await self._service.find(file_id)
        return await self._service.get(holder, file_id)

    async def _send(self, http: web.Request, file: StoredFile, caller: str) -> web.StreamResponse:
        headers = _headers(file)
        if is_not_modified(http, file.sha256):
            return web.Response(status=304, headers=headers)
        part = _requested_part(http, file)
        start, end = part or ByteRange(0, file.size)
        response = web.StreamResponse(status=206 if part else 200, headers=headers)
        response.content_type = file.media_type
        response.content_length = end - start
        if part:
            response.headers[hdrs.CONTENT_RANGE] = f"bytes {start}-{end - 1}/{file.size}"
        if http.method != hdrs.METH_HEAD:  # aiohttp would send the bytes after the headers
            began = perf_counter()
            read = self._store.read(file.key, start, end)
            async with aclosing(self._reads.each(caller, read)) as chunks:
                await self._stream(http, response, file, chunks)
            SECONDS.labels(DOWNLOAD).observe(perf_counter() - began)
        return response

    async def _stream(
        self,
        http: web.Request,
        response: web.StreamResponse,
        file: StoredFile,
        chunks: AsyncIterator[bytes],
    ) -> None:
        """Send the chunks. The headers wait for the first one, so that errors can be sent.

        Afterwards, an error closes the connection: the client sees that the file is incomplete.
        """
        counter = BYTES.labels(file.owner.app.partition("~")[0], DOWNLOAD)
        try:
            async for chunk in chunks:
                async with asyncio.timeout(WRITE_TIMEOUT):
                    if not response.prepared:
                        await response.prepare(http)
                    await response.write(chunk)
                counter.inc(len(chunk))
        except (Unavailable, TimeoutError, ConnectionError) as error:
            if not response.prepared:
                raise
            log.info("download ended early", kind=type(error).__name__)
            if http.transport is not None:
                http.transport.abort()

    def _uploaded(self, file: StoredFile) -> UploadedFileResponse:
        url, expires_in = self._urls.sign(file.id)
        return {
            "file_id": file.id,
            "size": file.size,
            "media_type": file.media_type,
            "sha256": file.sha256,
            "url": url,
            "expires_in": expires_in,
        }

    def _view(self, file: StoredFile) -> FileResponse:
        owner: FileOwnerView = {"openid": file.owner.openid}
        if file.owner.subject is not None:
            owner["subject"] = file.owner.subject
        view: FileResponse = {
            **self._uploaded(file),  # type: ignore[typeddict-item]
            "owner": owner,
            "created_at": file.created_at,
        }
        if file.purpose:
            view["purpose"] = file.purpose
        if file.name:
            view["name"] = file.name
        return view


def _headers(file: StoredFile) -> dict[str, str]:
    return {
        **FILE_HEADERS,
        hdrs.CONTENT_DISPOSITION: content_disposition(file.name),
        hdrs.ETAG: f'"{file.sha256}"',
    }


def _requested_part(http: web.Request, file: StoredFile) -> ByteRange | None:
    """Return the requested part; None for the whole file. Raises RangeNotSatisfiable.

    A range of an earlier content is ignored (RFC 9110, 13.1.5); dates are not compared.
    """
    condition = http.headers.get(hdrs.IF_RANGE)
    if condition is not None and condition != f'"{file.sha256}"':
        return None
    return parse_range(http.headers.get(hdrs.RANGE), file.size)


UPLOAD_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "file": {"type": "string", "format": "binary"},
        "purpose": {"type": "string"},
        "sha256": {"type": "string"},
        "openid": {"type": "string"},
    },
    "required": ["file"],
}

FILE_PATH = "/files/{file_id:[A-Za-z0-9_-]+}"

ENDPOINTS = [
    Endpoint(
        "POST",
        "/files",
        FilesAPI.upload,
        role="files",
        auth=HOLDER,
        operation_id="uploadFile",
        summary="Upload a file",
        multipart=UPLOAD_SCHEMA,
        response=UploadedFileResponse,
        errors=(
            UnsupportedMediaType,
            FileTooLarge,
            QuotaExceeded,
            InfectedFile,
            FileRefused,
            TooManyUploads,
        ),
        status=201,
    ),
    Endpoint(
        "GET",
        "/files",
        FilesAPI.list,
        role="files",
        auth=SERVER,
        operation_id="listFiles",
        summary="List the app's files",
        request=FileListQuery,
        request_in=QUERY,
        response=FileListResponse,
    ),
    Endpoint(
        "GET",
        FILE_PATH,
        FilesAPI.download,
        role="files",
        auth=URL_OR_HOLDER,
        operation_id="downloadFile",
        summary="Download a file",
        request=FileURLQuery,
        request_in=QUERY,
        response="*/*",
        errors=(UnknownFile, RangeNotSatisfiable),
    ),
    Endpoint(
        "GET",
        f"{FILE_PATH}/meta",
        FilesAPI.describe,
        role="files",
        auth=HOLDER,
        operation_id="describeFile",
        summary="Describe a file, with a fresh URL",
        response=FileResponse,
        errors=(UnknownFile,),
    ),
    Endpoint(
        "DELETE",
        FILE_PATH,
        FilesAPI.delete,
        role="files",
        auth=HOLDER,
        operation_id="deleteFile",
        summary="Delete a file",
        errors=(UnknownFile,),
        status=204,
    ),
]
