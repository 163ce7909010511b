"""Checks that bytes are a complete image of their media type.

No pixel is decoded. PNG has checksums over all of its content. For JPEG and SVG only the
beginning, the size and the end are checked.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
"""The markers that are followed by the size of a JPEG."""


def validation_error(content: bytes, media_type: str) -> str | None:
    """Return the defect of an image, or None if none is found."""
    if not content:
        return "image is empty"
    try:
        width, height = SIZE_READERS[media_type](content)
    except KeyError:
        return f"media type {media_type} is not one of {', '.join(SIZE_READERS)}"
    except (ValueError, IndexError):
        return f"not a complete {media_type}"
    return None if width > 0 and height > 0 else "image has no size"


def _png(content: bytes) -> tuple[int, int]:
    if not content.startswith(PNG_SIGNATURE):
        raise ValueError("wrong signature")
    size = (0, 0)
    at = len(PNG_SIGNATURE)
    while True:
        length = _number(content, at, 4)
        kind = content[at + 4 : at + 8]
        if zlib.crc32(content[at + 4 : at + 8 + length]) != _number(content, at + 8 + length, 4):
            raise ValueError("wrong checksum")
        if kind == b"IHDR":
            size = _number(content, at + 8, 4), _number(content, at + 12, 4)
        if kind == b"IEND":
            return size
        at += 12 + length


def _jpeg(content: bytes) -> tuple[int, int]:
    if not content.startswith(b"\xff\xd8\xff") or not content.rstrip(b"\0").endswith(b"\xff\xd9"):
        raise ValueError("beginning or end is missing")
    at = 2
    while content[at] == 0xFF:
        marker = content[at + 1]
        if marker in JPEG_FRAMES:
            return _number(content, at + 7, 2), _number(content, at + 5, 2)
        at += 2 + _number(content, at + 2, 2)
    raise ValueError("frame is missing")


def _svg(content: bytes) -> tuple[int, int]:
    text = content.decode()
    size = re.match(r'<svg\b[^>]*\bwidth="(\d+)[^>]*\bheight="(\d+)', text)
    if size is None or not text.rstrip().endswith("</svg>"):
        raise ValueError("beginning or end is missing")
    return int(size[1]), int(size[2])


def _number(content: bytes, at: int, length: int) -> int:
    if at + length > len(content):
        raise ValueError("content is truncated")
    return int.from_bytes(content[at : at + length])


SIZE_READERS: Mapping[str, Callable[[bytes], tuple[int, int]]] = {
    "image/jpeg": _jpeg,
    "image/png": _png,
    "image/svg+xml": _svg,
}
"""Reads the width and height of each media type, after it has checked the content."""
