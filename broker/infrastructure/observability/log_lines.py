"""Renders log events as lines of JSON, without secrets.

An event whose fields are text, whole numbers, ordinary floats, booleans or None is encoded by
msgspec. Every other event goes through structlog's processors. The lines are the same, byte for
byte; a line by msgspec costs a quarter of the instructions.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog

SECRET_FIELDS = frozenset(
    {
        "access_token",
        "admin_token",
        "api_secret",
        "device_code",
        "js_code",
        "provider_secret",
        "scene",
        "secret",
        "session_key",
        "skey",
        "token",
        "user_code",
    }
)
"""Fields whose values are never logged."""

SPECIAL_FIELDS = SECRET_FIELDS | {"exc_info"}

PLAIN_TYPES = frozenset({int, bool})

DELETE = b"\x7f"

NANOSECONDS = 1_000_000_000


def redact(logger: Any, method: str, event: Any) -> Any:
    return {name: "[hidden]" if name in SECRET_FIELDS else value for name, value in event.items()}


class Timestamps:
    """A processor that adds the time in UTC, such as `2026-01-31T08:00:00.123456Z`.

    The text of a second is kept: libc's conversion costs more than a login's whole line.
    clock: nanoseconds since 1970.
    """

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        self._clock = clock
        self._second: tuple[int, str] = (-1, "")

    def __call__(self, logger: Any, method: str, event: Any) -> Any:
        second, nanoseconds = divmod(self._clock(), NANOSECONDS)
        known, text = self._second  # one read: other threads log too
        if second != known:
            text = datetime.fromtimestamp(second, UTC).isoformat().removesuffix("+00:00")
            self._second = second, text
        microseconds = nanoseconds // 1000
        event["timestamp"] = f"{text}.{microseconds:06}Z" if microseconds else f"{text}Z"
        return event


def escape_controls(logger: Any, method: str, line: str) -> str:
    """Return the JSON text with escapes for characters that a terminal could interpret."""
    if line.isprintable():
        return line
    return "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in line)


GENERAL: Iterable[Callable[[Any, str, Any], Any]] = (
    redact,
    structlog.processors.format_exc_info,
    structlog.processors.JSONRenderer(ensure_ascii=False),
    escape_controls,
)
"""Processors that render any event as a line. Other text than ASCII stays readable."""


def general_line(logger: Any, method: str, event: Any) -> Any:
    for process in GENERAL:
        event = process(logger, method, event)
    return event


def plain_line(event: dict[str, Any]) -> str | None:
    """Return the line of an event that needs no processor, or None."""
    if not SPECIAL_FIELDS.isdisjoint(event):
        return None
    for value in event.values():
        if type(value) is not str and not _is_plain(value):
            return None
    try:
        data = msgspec.json.format(msgspec.json.encode(event), indent=0)
    except UnicodeEncodeError:  # a lone surrogate
        return None
    # An encoder escapes all other controls of ASCII.
    return data.decode() if data.isascii() and DELETE not in data else None


def _is_plain(value: object) -> bool:
    """Whether json and msgspec write the value alike, such as a float without an exponent."""
    if type(value) is float:
        return 1e-4 <= abs(value) < 1e16 or value == 0
    return value is None or type(value) in PLAIN_TYPES


def json_line(logger: Any, method: str, event: Any) -> Any:
    """Render an event as a line of JSON."""
    line = plain_line(event)
    return general_line(logger, method, event) if line is None else line
