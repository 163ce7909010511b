"""Logs the begin and the end of an outage, once each."""

from __future__ import annotations

import structlog

log = structlog.get_logger()


class OutageLog:
    """An outage lasts from the first failure until the next success.

    on_start, on_end: the log events.
    fields: of both log events, such as the app.
    reason: of the last failure; None without an outage.
    failures: consecutive failures.
    """

    def __init__(self, on_start: str, on_end: str, **fields: object) -> None:
        self._on_start = on_start
        self._on_end = on_end
        self._fields = fields
        self.reason: str | None = None
        self.failures = 0

    def failed(self, reason: str) -> None:
        if not self.failures:
            log.warning(self._on_start, reason=reason, **self._fields)
        self.reason = reason
        self.failures += 1

    def recovered(self) -> None:
        if self.failures:
            log.warning(self._on_end, **self._fields)
        self.reason = None
        self.failures = 0
