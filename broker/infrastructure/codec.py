"""JSON of stored values, notices, requests and responses.

msgspec is five to ten times faster than the standard library, whose JSON took a tenth of the
CPU time of a login.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

RawJSON = msgspec.Raw
"""JSON text that is copied, and neither decoded nor encoded."""

encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode
"""Encode a value as JSON in UTF-8: dataclasses as objects, named tuples as arrays, bytes as
base64."""

decode: Callable[[bytes | str], Any] = msgspec.json.Decoder().decode
"""Decode a JSON text (RFC 8259). Raises ValueError or RecursionError for any other text."""


def decoder(value_type: type[T]) -> Callable[[bytes | str], T]:
    """Return a function that decodes a `value_type`. It raises ValueError for any other text, and
    RecursionError for one that is nested too deeply."""
    return msgspec.json.Decoder(value_type).decode
