"""Limits events per client and minute, and answers `rate_limited` over the limit."""

from __future__ import annotations

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

    def counting_failures(self, key: str) -> CountedAttempt:
        """Count the failed attempt inside.  Over the limit, RateLimited replaces its error.

        Only errors with `counts_as_guess` are failed attempts.  The secret is checked first:
        a client with a correct secret is served even if others have made many failed attempts
        from its address.  See docs/decisions/0023-serve-correct-secrets.md.
        """
        return CountedAttempt(self, key)


class CountedAttempt:
    """The context manager of `RateLimiter.counting_failures`."""

    __slots__ = ("_key", "_limiter")

    def __init__(self, limiter: RateLimiter, key: str) -> None:
        self._limiter = limiter
        self._key = key

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, BrokerError) and error.counts_as_guess:
            self._limiter.count(self._key)
