"""Logs: lines of JSON, or lines to read on a terminal; no secret in either."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

SECRETS = frozenset(
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
"""Names whose values never reach a log, whoever puts them there."""


def redact(logger: Any, method: str, event: Any) -> Any:
    return {name: "[hidden]" if name in SECRETS else value for name, value in event.items()}


class Quiet(logging.Handler):
    """What a library logs, by its kind alone: aiohttp repeats a malformed request word for word."""

    def emit(self, record: logging.LogRecord) -> None:
        kind = record.exc_info[0] if record.exc_info else None
        log = structlog.get_logger()
        # Anybody can send aiohttp a request that is none, as often as they like.
        say = log.debug if record.name == "aiohttp.server" else log.warning
        say("a library complains", library=record.name, kind=kind.__name__ if kind else None)


def set_up(level: str) -> None:
    """Log to stderr from `level` on: debug, info, warning or error."""
    terminal = sys.stderr.isatty()
    root = logging.getLogger()
    root.handlers = [Quiet()]
    # Plain: a traceback that shows local variables would show secrets.
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    renderer: Any = plain if terminal else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            redact,
            *([] if terminal else [structlog.processors.format_exc_info]),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
