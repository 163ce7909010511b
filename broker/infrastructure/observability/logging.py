"""Logging: lines of JSON, or readable lines on a terminal, without secrets.

A log call puts a line into a queue. One thread writes the lines, so a log call never raises and
never blocks the event loop, even if the stream fails.

    log call ──▶ queue of LINES_MAX ──▶ thread ──▶ stderr or stdout
                   │ full                 │ write fails
                   └────── dropped and counted ──┘
"""

from __future__ import annotations

import atexit
import logging
import os
import queue
import select
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TextIO

import structlog
from structlog.typing import EventDict, Processor

from broker.infrastructure.observability.log_lines import Timestamps, json_line, redact
from broker.infrastructure.observability.metrics import Counter

LINES_MAX = 5_000
"""Lines in the queue: a few MB."""

BATCH_DELAY = 0.02
"""Seconds that the thread collects lines before it writes them."""

BATCH_MAX = 100
"""Lines that the thread takes from the queue at once."""

PIPE_BUF = select.PIPE_BUF

FLUSH_TIMEOUT = 1.0
"""Seconds for the queued lines when the process ends."""


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
            pending: list[Line] = []
            for item in self._take():
                if isinstance(item, threading.Event):
                    self._write_all(pending)
                    item.set()
                    pending = []
                else:
                    pending.append(item)
            self._write_all(pending)

    def _take(self) -> list[Line | threading.Event]:
        """Wait for an item. Return it and those that follow within BATCH_DELAY."""
        items = [self._lines.get()]
        if not isinstance(items[0], threading.Event):
            # Lines of this time wake no thread and share a system call.
            time.sleep(BATCH_DELAY)
        with suppress(queue.Empty):
            while len(items) < BATCH_MAX:
                items.append(self._lines.get_nowait())
        return items

    def _write_all(self, lines: Sequence[Line]) -> None:
        for stream, texts in batches(lines):
            try:
                self._write(stream, texts)
            except Exception:  # a closed stream, or one without a descriptor
                LOG_LINES_DROPPED.inc(len(texts))

    def _write(self, stream: TextIO | None, texts: Sequence[bytes]) -> None:
        if stream is None:
            raise ValueError("no stream")
        descriptor = stream.fileno()
        # A full disk may have taken half of the line before this one.
        data = (b"\n" if self._is_torn else b"") + b"".join(texts)
        while data:
            try:
                written = os.write(descriptor, data)
            except BlockingIOError:
                select.select([], [descriptor], [])
            except OSError:  # a broken pipe, a full disk
                LOG_LINES_DROPPED.inc(_lines_in(data, texts))
                return
            else:
                self._is_torn = written < len(data) and data[written - 1 : written] != b"\n"
                data = data[written:]


def batches(lines: Iterable[Line]) -> Iterator[tuple[TextIO | None, list[bytes]]]:
    """Return the lines in groups for one write each.

    A pipe takes PIPE_BUF bytes without a part of another process's line between them.
    """
    group: list[bytes] = []
    size, last = 0, None
    for stream, text in lines:
        data = text.encode(errors="backslashreplace")
        if group and (stream is not last or size + len(data) > PIPE_BUF):
            yield last, group
            group, size = [], 0
        group.append(data)
        size, last = size + len(data), stream
    if group:
        yield last, group


def _lines_in(rest: bytes, texts: Sequence[bytes]) -> int:
    """Return how many lines are in the rest of a write, those in part included."""
    count, size = 0, 0
    for text in reversed(texts):
        if size >= len(rest):
            break
        count, size = count + 1, size + len(text)
    return count


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
                    Timestamps(),
                    *([redact, plain] if terminal else [json_line]),
                ]
            )
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=lambda *names: QueueLogger(sys.stderr),
        cache_logger_on_first_use=True,
    )


LOG_LINES_DROPPED = Counter("scanlogin_log_lines_dropped", "Log lines that were not written")
