"""Rate limits of logins."""

from __future__ import annotations

from broker.infrastructure.api.rate_limit import RateLimiter
from broker.infrastructure.rate_limit import RateLimit
from broker.infrastructure.runtime.drain import DrainGate
from broker.login.errors import PolledTooFast

POLL_TOLERANCE = 1
"""Seconds that a poll may be early: timers and networks are uneven."""


class LoginLimits:
    """begins_per_minute: logins per client address. interval: seconds between two polls."""

    def __init__(self, *, begins_per_minute: int, interval: int, drain: DrainGate) -> None:
        self._begins = RateLimiter(begins_per_minute)
        self._polls = RateLimit(1, max(1, interval - POLL_TOLERANCE))
        self._drain = drain

    def count_begin(self, address: str) -> None:
        """Count a new login. Raises RateLimited over the limit, or InstanceDraining."""
        self._drain.check_open()
        self._begins.count(address)

    def count_poll(self, login_id: str) -> None:
        """Raise PolledTooFast for the second poll of a login within its interval."""
        if not self._polls.hit(login_id):
            raise PolledTooFast
