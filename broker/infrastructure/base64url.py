"""The form of 256 bits in BASE64URL without padding (RFC 4648, section 5).

Random secrets, MACs and SHA-256 hashes have this form.
"""

from __future__ import annotations

import re

BITS_256 = r"[A-Za-z0-9_-]{43}"
"""A regular expression, also for a part of a longer text."""

_PATTERN = re.compile(BITS_256)


def is_256_bits(text: str) -> bool:
    return _PATTERN.fullmatch(text) is not None
