"""Parses HTTP/1.1 responses. It does no I/O (RFC 9112).

It is strict: what two implementations could read differently is an error, because the next
response on the same connection must not begin in the middle of this one.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import NamedTuple, TypeVar

from broker.infrastructure.outbound.http import HTTPResponse, ResponseTooLarge

T = TypeVar("T")

Steps = Generator[None, None, T]
"""Yields when it needs more bytes, and returns the parsed part."""

HEAD_MAX_BYTES = 16 * 1024
"""Status line and fields, or all trailer fields."""

CHUNK_LINE_MAX_BYTES = 256
"""The size of a chunk with its extensions."""

CHUNKS_MAX = 4096
"""Chunks of one body. Each costs a few microseconds of this process."""

INTERIM_MAX = 8
"""Responses with a status below 200 before the final one."""

HEAD = re.compile(
    rb"HTTP/1\.(?P<minor>[01]) (?P<status>[1-5][0-9]{2})(?: [^\r\n\0]*)?"
    rb"(?:\r\n[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\r\n\0]*)*"
)

FIELDS = re.compile(
    rb"\r\n(connection|content-length|content-type|transfer-encoding):([^\r\n]*)", re.IGNORECASE
)

LENGTH = re.compile(rb"[0-9]{1,15}")

CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n\0]*)?")

BODILESS = frozenset({204, 304})

SWITCHING_PROTOCOLS = 101

DEFAULT_MEDIA_TYPE = "application/octet-stream"


class MalformedResponse(ValueError):
    """The bytes are not an HTTP/1.1 response. The text is the reason."""


class ResponseHead(NamedTuple):
    """length: of the body; None if it is chunked or ends with the connection.

    keeps_alive: whether the server keeps the connection open.
    """

    status: int
    media_type: str
    length: int | None
    is_chunked: bool
    keeps_alive: bool


class ResponseParser:
    """Parses one response.

    max_bytes: of the body.
    response: the complete response; None until then.
    is_reusable: whether the connection can carry another request after the response.
    """

    __slots__ = ("_buffer", "_has_ended", "_steps", "has_begun", "is_reusable", "response")

    def __init__(self, max_bytes: int) -> None:
        self.response: HTTPResponse | None = None
        self.has_begun = False
        self.is_reusable = False
        self._buffer = bytearray()
        self._has_ended = False
        self._steps = self._parse(max_bytes)
        next(self._steps)

    def feed(self, data: bytes) -> HTTPResponse | None:
        """Parse more bytes. Return the response if it is complete.

        Raises MalformedResponse or ResponseTooLarge.
        """
        self.has_begun = True
        self._buffer += data
        return self._advance()

    def feed_end(self) -> HTTPResponse | None:
        """Parse the end of the connection. Raises MalformedResponse if the response needs more."""
        self._has_ended = True
        return self._advance()

    def _advance(self) -> HTTPResponse | None:
        next(self._steps, None)
        return self.response

    def _parse(self, max_bytes: int) -> Steps[None]:
        head = yield from self._final_head()
        if head.is_chunked:
            content = yield from self._chunks(max_bytes)
        elif head.length is None:
            content = yield from self._rest(max_bytes)
        else:
            if head.length > max_bytes:
                raise ResponseTooLarge(max_bytes)
            content = yield from self._exactly(head.length)
        self.is_reusable = head.keeps_alive and not self._buffer and not self._has_ended
        self.response = HTTPResponse(head.status, head.media_type, content)

    def _final_head(self) -> Steps[ResponseHead]:
        for _ in range(INTERIM_MAX):
            head = parse_head((yield from self._until(b"\r\n\r\n", HEAD_MAX_BYTES)))
            if head.status == SWITCHING_PROTOCOLS:
                raise MalformedResponse("status 101 without a request for it")
            if head.status >= 200:
                return head
        raise MalformedResponse("too many interim responses")

    def _chunks(self, max_bytes: int) -> Steps[bytes]:
        content = bytearray()
        for _ in range(CHUNKS_MAX):
            line = CHUNK_LINE.fullmatch((yield from self._until(b"\r\n", CHUNK_LINE_MAX_BYTES)))
            if line is None:
                raise MalformedResponse("invalid chunk size")
            size = int(line[1], 16)
            if size == 0:
                yield from self._trailers()
                return bytes(content)
            if len(content) + size > max_bytes:
                raise ResponseTooLarge(max_bytes)
            content += yield from self._exactly(size)
            if (yield from self._exactly(2)) != b"\r\n":
                raise MalformedResponse("chunk without an end")
        raise MalformedResponse("too many chunks")

    def _trailers(self) -> Steps[None]:
        left = HEAD_MAX_BYTES
        while line := (yield from self._until(b"\r\n", left)):
            left = max(0, left - len(line) - 2)

    def _rest(self, max_bytes: int) -> Steps[bytes]:
        while not self._has_ended:
            if len(self._buffer) > max_bytes:
                raise ResponseTooLarge(max_bytes)
            yield
        return (yield from self._exactly(len(self._buffer)))

    def _until(self, end: bytes, max_bytes: int) -> Steps[bytes]:
        """Remove and return what is before `end`, and remove `end`."""
        while (length := self._buffer.find(end)) < 0 and len(self._buffer) <= max_bytes:
            yield from self._more()
        if not 0 <= length <= max_bytes:
            raise MalformedResponse(f"a part of the response has over {max_bytes} bytes")
        part = yield from self._exactly(length)
        del self._buffer[: len(end)]
        return part

    def _exactly(self, length: int) -> Steps[bytes]:
        """Remove and return the next `length` bytes."""
        while len(self._buffer) < length:
            yield from self._more()
        part = bytes(self._buffer[:length])
        del self._buffer[:length]
        return part

    def _more(self) -> Steps[None]:
        if self._has_ended:
            raise MalformedResponse("the connection ended within the response")
        yield


def parse_head(head: bytes) -> ResponseHead:
    """Parse status line and fields. Raises MalformedResponse."""
    match = HEAD.fullmatch(head)
    if match is None:
        raise MalformedResponse("invalid status line or field")
    fields: dict[bytes, bytes] = {}
    for name, value in FIELDS.findall(head):
        key = name.lower()
        fields[key] = fields[key] + b"," + value.strip() if key in fields else value.strip()
    status, coding = int(match["status"]), fields.get(b"transfer-encoding")
    if coding is not None and (coding.lower() != b"chunked" or b"content-length" in fields):
        raise MalformedResponse("unknown transfer coding, or a length in addition to it")
    is_bodiless = status in BODILESS or status < 200
    options = {option.strip() for option in fields.get(b"connection", b"").lower().split(b",")}
    return ResponseHead(
        status,
        _media_type(fields.get(b"content-type", b"")),
        0 if is_bodiless else _length(fields.get(b"content-length")),
        coding is not None and not is_bodiless,
        match["minor"] == b"1" and b"close" not in options,
    )


def _length(value: bytes | None) -> int | None:
    """Raises MalformedResponse for anything else than one number."""
    if value is None:
        return None
    if not LENGTH.fullmatch(value):
        raise MalformedResponse("invalid content length")
    return int(value)


def _media_type(value: bytes) -> str:
    return value.partition(b";")[0].strip().lower().decode("latin-1") or DEFAULT_MEDIA_TYPE
