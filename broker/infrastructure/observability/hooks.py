"""Logs what Python itself writes to stderr. Imports no library, so that commands start fast."""

from __future__ import annotations

import logging
import sys


def capture_hooks() -> None:
    """Log Python's warnings and unraisable exceptions, from the configuration of the log on."""
    logging.captureWarnings(True)
    sys.unraisablehook = _log_unraisable


def _log_unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    if "structlog" not in sys.modules:
        sys.__unraisablehook__(unraisable)
        return
    import structlog

    kind = unraisable.exc_type.__name__
    structlog.get_logger().error("unraisable exception", kind=kind)
