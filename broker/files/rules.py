"""Rules for files: types, names, and parts of a file that a client requests."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple
from urllib.parse import quote

from broker.apps.rules import FILE_TYPES
from broker.files.errors import RangeNotSatisfiable, UnsupportedMediaType
from broker.infrastructure.api.schema import sanitize_text

SIGNATURE_BYTES = 12
"""Number of first bytes that identify every type."""

NAME_MAX = 255

MP4_BRANDS = frozenset(
    [b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"avc1", b"mp41", b"mp42", b"M4V ", b"MSNV"]
)
"""Major brands of MP4 files (ISO/IEC 14496-12, section 4.3). HEIC and QuickTime have others."""

SIGNATURES: Mapping[str, Callable[[bytes], bool]] = {
    "jpeg": lambda head: head.startswith(b"\xff\xd8\xff"),
    "png": lambda head: head.startswith(b"\x89PNG\r\n\x1a\n"),
    "gif": lambda head: head.startswith((b"GIF87a", b"GIF89a")),
    "webp": lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP",
    "mp4": lambda head: head[4:8] == b"ftyp" and head[8:12] in MP4_BRANDS,
    "pdf": lambda head: head.startswith(b"%PDF-"),
}
"""Checks of the first bytes, for each type."""


def detect_media_type(head: bytes, allowed: Collection[str]) -> str:
    """Return the media type of a file that begins with `head`.

    allowed: names in `FILE_TYPES`. Raises UnsupportedMediaType.
    """
    for name, matches in SIGNATURES.items():
        if name in allowed and matches(head):
            return FILE_TYPES[name]
    raise UnsupportedMediaType


def clean_name(name: str) -> str:
    """Return a client's file name without its folders and control characters."""
    return sanitize_text(re.split(r"[/\\]", name)[-1], NAME_MAX)


def content_disposition(name: str) -> str:
    """Return the header that makes browsers save a file (RFC 6266)."""
    return f"attachment; filename*=UTF-8''{quote(name, safe='')}" if name else "attachment"


class ByteRange(NamedTuple):
    """The bytes from `start` to before `end`."""

    start: int
    end: int


RANGE_PATTERN = re.compile(r"bytes=(\d{0,15})-(\d{0,15})", re.ASCII)


def parse_range(header: str | None, size: int) -> ByteRange | None:
    """Return the part that a `Range` header requests; None for the whole file.

    Several parts, other units and malformed headers request the whole file (RFC 9110, 14.2).
    Raises RangeNotSatisfiable.
    """
    match = RANGE_PATTERN.fullmatch(header or "")
    if match is None or match.group() == "bytes=-":
        return None
    first, last = match.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return None
    if start >= size:
        raise RangeNotSatisfiable
    return ByteRange(start, end)
