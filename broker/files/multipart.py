"""Reads an upload: a multipart body with one file and a few form fields, in any order."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar, cast

from aiohttp import BodyPartReader, MultipartReader, StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError

from broker.errors import InvalidRequest
from broker.files.rules import clean_name

T = TypeVar("T")

FILE = "file"
"""The name of the part with the file."""

FIELDS: Mapping[str, re.Pattern[str]] = {
    "openid": re.compile(r"[^\x00-\x1f\x7f]{1,128}"),
    "purpose": re.compile(r"[A-Za-z0-9._-]{1,64}"),
    "sha256": re.compile(r"[0-9A-Fa-f]{64}"),
}
"""The form fields. Others are ignored: clients add their own."""

FIELD_MAX_BYTES = 1_024

PARTS_MAX = 32
"""Parts of a body, each with its own headers."""

LINES_MAX_BYTES = 64 * 1024
"""Bytes of all lines around the contents of the parts."""

CHUNK_BYTES = 64 * 1024

PROGRESS_TIMEOUT, UPLOAD_TIMEOUT = 10.0, 60.0
"""Seconds without a byte, and seconds in all. WeChat's client gives up after 60 s."""

MULTIPART = "multipart/form-data"


class BoundedLines:
    """The body of a request, for `MultipartReader`, with a limit of the lines around the parts.

    aiohttp reads and drops lines before the first part without a limit.
    """

    def __init__(self, content: StreamReader) -> None:
        self._content = content
        self._bytes = 0

    async def readline(self, **limits: int) -> bytes:
        """Raises InvalidRequest after `LINES_MAX_BYTES`."""
        line = await self._content.readline(**limits)
        self._bytes += len(line)
        if self._bytes > LINES_MAX_BYTES:
            raise InvalidRequest(f"request body: over {LINES_MAX_BYTES} bytes around its parts")
        return line

    def __getattr__(self, name: str) -> object:
        return getattr(self._content, name)


class MultipartUpload:
    """Implements `Upload`. aiohttp does not limit multipart bodies; `Reception` counts the file.

    progress_timeout, upload_timeout: seconds.
    """

    def __init__(
        self,
        http: web.Request,
        *,
        progress_timeout: float = PROGRESS_TIMEOUT,
        upload_timeout: float = UPLOAD_TIMEOUT,
    ) -> None:
        self._http = http
        self._fields: dict[str, str] = {}
        self._file: BodyPartReader | None = None
        self._parts = 0
        self._progress_timeout = progress_timeout
        self._end = asyncio.get_running_loop().time() + upload_timeout
        self.name = ""

    @property
    def length(self) -> int | None:
        return self._http.content_length

    @property
    def fields(self) -> Mapping[str, str]:
        return self._fields

    async def open(self) -> None:
        if self._http.content_type != MULTIPART:
            raise InvalidRequest(f"request body is not {MULTIPART}")
        with _malformed():
            self._reader = MultipartReader(
                self._http.headers, cast("StreamReader", BoundedLines(self._http.content))
            )
        self._file = await self._read_fields()
        if self._file is None:
            raise InvalidRequest(f"{FILE}: missing")
        if self._file.filename is None:
            raise InvalidRequest(f"{FILE}: must be a file with a name, not a text field")
        self.name = clean_name(self._file.filename)

    async def chunks(self) -> AsyncIterator[bytes]:
        assert self._file is not None, "open the upload first"
        while chunk := await self._read(self._file.read_chunk(CHUNK_BYTES)):
            yield chunk
        if await self._read_fields() is not None:
            raise InvalidRequest(f"{FILE}: only one file for each request")

    async def _read_fields(self) -> BodyPartReader | None:
        """Read fields until a file follows, and return it; None at the end of the body."""
        while part := await self._read(self._reader.next()):
            self._parts += 1
            if self._parts > PARTS_MAX or not isinstance(part, BodyPartReader):
                raise InvalidRequest(f"request body: at most {PARTS_MAX} parts, none nested")
            if part.name == FILE:
                return part
            await self._read_field(part)
        return None

    async def _read_field(self, part: BodyPartReader) -> None:
        name, value = part.name or "", b""
        while chunk := await self._read(part.read_chunk(CHUNK_BYTES)):
            value += chunk
            if len(value) > FIELD_MAX_BYTES:
                raise InvalidRequest(f"form field is larger than {FIELD_MAX_BYTES} bytes")
        if name not in FIELDS:
            return
        text = _text(name, value)
        if name in self._fields or not FIELDS[name].fullmatch(text):
            raise InvalidRequest(f"{name}: repeated, or must match {FIELDS[name].pattern}")
        self._fields[name] = text

    async def _read(self, step: Awaitable[T]) -> T:
        """Wait for a part of the body. Raises InvalidRequest."""
        now = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout_at(min(now + self._progress_timeout, self._end)):
                with _malformed():
                    return await step
        except TimeoutError:
            raise InvalidRequest("request body did not arrive in time") from None


def _text(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InvalidRequest(f"{name}: is not UTF-8") from None


@contextmanager
def _malformed() -> Iterator[None]:
    """Raise InvalidRequest for what aiohttp raises for a malformed or incomplete body."""
    try:
        yield
    except ConnectionError:
        raise InvalidRequest("connection lost before the end of the request body") from None
    except (ValueError, RuntimeError, LookupError, AssertionError, HttpProcessingError):
        raise InvalidRequest("request body is not well-formed multipart form data") from None
