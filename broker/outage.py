"""An outage in the log: told once, and once that it is over."""

from __future__ import annotations

import structlog

log = structlog.get_logger()


class Outage:
    """Whether something is out of reach: from a first failure on, until it does its work again.

    begins, ends: what the log is told then.  about: what else, such as which app it is about.
    reason: why it failed last; None while it does its work.  failures: how many in a row.
    """

    def __init__(self, begins: str, ends: str, **about: object) -> None:
        self._begins = begins
        self._ends = ends
        self._about = about
        self.reason: str | None = None
        self.failures = 0

    def fails(self, reason: str) -> None:
        if not self.failures:
            log.warning(self._begins, reason=reason, **self._about)
        self.reason = reason
        self.failures += 1

    def is_over(self) -> None:
        if self.failures:
            log.warning(self._ends, **self._about)
        self.reason = None
        self.failures = 0
