"""An outage in the log: told once, and once that it is over."""

from __future__ import annotations

import structlog

log = structlog.get_logger()


class OutageLog:
    """Whether something is out of reach: from a first failure on, until it does its work again.

    begins, ends: what the log is told then.  about: what else, such as which app it is about.
    reason: why it failed last; None while it does its work.  failures: how many in a row.
    """

    def __init__(self, on_start: str, on_end: str, **fields: object) -> None:
        self._begins = on_start
        self._ends = on_end
        self._about = fields
        self.reason: str | None = None
        self.failures = 0

    def failed(self, reason: str) -> None:
        if not self.failures:
            log.warning(self._begins, reason=reason, **self._about)
        self.reason = reason
        self.failures += 1

    def recovered(self) -> None:
        if self.failures:
            log.warning(self._ends, **self._about)
        self.reason = None
        self.failures = 0
