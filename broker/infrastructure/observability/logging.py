"""Logging: lines of JSON, or readable lines on a terminal, without secrets.

A log call puts a line into a queue. One thread writes the lines, so a log call never raises and
never blocks the event loop, even if the stream fails.

    log call ──▶ queue of LINES_MAX ──▶ thread ──▶ stderr or stdout
                   │ full                 │ write fails
                   └────── dropped and counted ──┘
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import queue
import select
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TextIO

import structlog
from structlog.typing import EventDict, Processor

from broker.infrastructure.observability.metrics import Counter

LINES_MAX = 5_000
"""Lines in the queue: a few MB."""

FLUSH_TIMEOUT = 1.0
"""Seconds for the queued lines when the process ends."""

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


def redact(logger: Any, method: str, event: Any) -> Any:
    return {name: "[hidden]" if name in SECRET_FIELDS else value for name, value in event.items()}


class LibraryLogHandler(logging.Handler):
    """Logs the records of libraries without their text: aiohttp's contains malformed requests."""

    def emit(self, record: logging.LogRecord) -> None:
        kind = record.exc_info[0] if record.exc_info else None
        log = structlog.get_logger()
        # Any client can make aiohttp.server log malformed requests, as often as it likes.
        write = log.debug if record.name == "aiohttp.server" else log.warning
        write("library warning", library=record.name, kind=kind.__name__ if kind else None)


class Line(NamedTuple):
    """A line for a stream. stream: None if the process has none."""

    stream: TextIO | None
    text: str


class Writer:
    """Writes lines to streams in a thread that starts with the first line.

    A line that finds the queue full, or that cannot be written, is dropped and counted.
    """

    def __init__(self, lines_max: int = LINES_MAX) -> None:
        # Not a Queue: a finalizer that logs while this thread is in its `put` would deadlock.
        self._lines: queue.SimpleQueue[Line | threading.Event] = queue.SimpleQueue()
        self._lines_max = lines_max
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_torn = False

    def put(self, stream: TextIO | None, text: str) -> None:
        """Queue `text`. Never blocks and never raises.

        stream: None if the process has none, such as after `2>&-`.
        """
        if self._lines.qsize() < self._lines_max:
            self._lines.put(Line(stream, text))
        else:
            LOG_LINES_DROPPED.inc()
        if self._thread is None:
            with suppress(RuntimeError):  # no thread available; the next line tries again
                self._start()

    def flush(self, timeout: float = FLUSH_TIMEOUT) -> None:
        """Wait until every line is written or dropped, or the timeout has passed."""
        if self._lines.empty() and self._thread is None:
            return
        done = threading.Event()
        self._lines.put(done)
        done.wait(timeout)

    def _start(self) -> None:
        if not self._starting.acquire(blocking=False):
            return  # another call starts it
        try:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="log writer", daemon=True)
                thread.start()
                self._thread = thread
        finally:
            self._starting.release()

    def _run(self) -> None:
        while True:
            line = self._lines.get()
            if isinstance(line, threading.Event):
                line.set()
                continue
            try:
                self._write(*line)
            except Exception:  # a broken pipe, a full disk, a closed stream
                LOG_LINES_DROPPED.inc()

    def _write(self, stream: TextIO | None, text: str) -> None:
        if stream is None:
            raise ValueError("no stream")
        # A full disk may have taken half of the line before this one.
        start = b"\n" if self._is_torn else b""
        data = start + text.encode(errors="backslashreplace")
        descriptor = stream.fileno()
        while data:
            try:
                written = os.write(descriptor, data)
            except BlockingIOError:
                select.select([], [descriptor], [])
            else:
                data = data[written:]
                self._is_torn = bool(data)


_writer = Writer()

atexit.register(_writer.flush)


class QueueLogger:
    """The logger behind structlog: queues rendered lines."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        _writer.put(self._stream, f"{line}\n")

    debug = info = warning = error = critical = exception = msg


def announce(text: str, end: str = "\n") -> None:
    """Print to stdout through the same queue. Never blocks and never raises."""
    _writer.put(sys.stdout, text + end)


def flush() -> None:
    """Wait until the queued lines are written, at most FLUSH_TIMEOUT seconds."""
    _writer.flush()


def rendered_by(processors: Sequence[Processor]) -> Processor:
    """Return one processor that runs all, and drops the event if one of them raises."""

    def render(logger: Any, method: str, event: EventDict) -> Any:
        result: Any = event
        try:
            for process in processors:
                result = process(logger, method, result)
        except Exception:  # such as a field whose repr() raises
            LOG_LINES_DROPPED.inc()
            raise structlog.DropEvent from None
        return result

    return render


def escape_controls(logger: Any, method: str, line: str) -> str:
    """Return the JSON text with escapes for characters that a terminal could interpret."""
    if line.isprintable():
        return line
    return "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in line)


JSON_LINE: Sequence[Any] = (
    structlog.processors.format_exc_info,
    structlog.processors.JSONRenderer(ensure_ascii=False),
    escape_controls,
)
"""Processors that render an event as a line. Other text than ASCII stays readable."""


def configure(level: str) -> None:
    """Log to stderr. level: debug, info, warning or error."""
    terminal = sys.stderr is not None and sys.stderr.isatty()
    root = logging.getLogger()
    root.handlers = [LibraryLogHandler()]
    # Plain tracebacks: tracebacks with local variables would contain secrets.
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(
        processors=[
            rendered_by(
                [
                    structlog.processors.add_log_level,
                    structlog.processors.TimeStamper(fmt="iso"),
                    redact,
                    *([plain] if terminal else JSON_LINE),
                ]
            )
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=lambda *names: QueueLogger(sys.stderr),
        cache_logger_on_first_use=True,
    )


LOG_LINES_DROPPED = Counter("scanlogin_log_lines_dropped", "Log lines that were not written")
