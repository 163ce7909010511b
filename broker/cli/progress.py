"""Reports the progress of `scan-login pool fill`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from broker.pool.filler import FillProgress

PROGRESS_INTERVAL = 5.0
"""Seconds between two progress lines, if standard error is not a terminal."""

ProgressReporter = Callable[[FillProgress], None]


@contextmanager
def progress_reporter() -> Iterator[ProgressReporter]:
    """Report progress with a bar on a terminal, else with lines."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _line_reporter()
        return
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(TextColumn("drawing"), *columns, console=console) as bar:
        task = bar.add_task("drawing", total=None)
        last_reason = ""

        def report(progress: FillProgress) -> None:
            nonlocal last_reason
            bar.update(task, total=progress.target, completed=progress.ready)
            if progress.waiting_for not in ("", last_reason):
                last_reason = progress.waiting_for
                console.print(f"waiting: {last_reason}", markup=False, highlight=False)

        yield report


def _line_reporter() -> ProgressReporter:
    last_reason, next_line_at = "", 0.0

    def report(progress: FillProgress) -> None:
        nonlocal last_reason, next_line_at
        if progress.waiting_for not in ("", last_reason):
            last_reason = progress.waiting_for
            print(f"waiting: {last_reason}", file=sys.stderr, flush=True)
        elif time.monotonic() >= next_line_at:
            next_line_at = time.monotonic() + PROGRESS_INTERVAL
            text = f"{progress.ready} of {progress.target} codes are ready"
            print(text, file=sys.stderr, flush=True)

    return report
