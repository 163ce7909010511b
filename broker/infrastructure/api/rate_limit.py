"""Limits events per client and minute, and answers `rate_limited` over the limit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from broker.errors import BrokerError, RateLimited
from broker.infrastructure.rate_limit import RateLimit, rate_limit_key

MINUTE = 60.0


class RateLimiter:
    """Counts events per key and minute, and rejects those over a limit.

    A key is a client address or any other text, such as an app's id.  An IPv4 client is
    counted by address, an IPv6 client by its /64 network.  Counters are local to this process.
    """

    def __init__(self, per_minute: int) -> None:
        self._limit = RateLimit(per_minute, MINUTE)

    def count(self, key: str) -> None:
        """Count an event.  Raises RateLimited over the limit."""
        key = rate_limit_key(key)
        if not self._limit.hit(key):
            raise RateLimited(self._limit.retry_after(key)) from None

    def take_back(self, key: str) -> None:
        """Uncount one event."""
        self._limit.take_back(rate_limit_key(key))

    @contextmanager
    def counting_failures(self, key: str) -> Iterator[None]:
        """Count the failed attempt inside.  Over the limit, RateLimited replaces its error.

        Only errors with `counts_as_guess` are failed attempts.  The secret is checked first:
        a client with a correct secret is served even if others have made many failed attempts
        from its address.  See docs/decisions/0023-serve-correct-secrets.md.
        """
        try:
            yield
        except BrokerError as error:
            if error.counts_as_guess:
                self.count(key)
            raise
