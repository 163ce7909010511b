"""Rate limits of logins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from broker.errors import RateLimited
from broker.identity.model import Phone, identity_key
from broker.infrastructure.api.rate_limit import RateLimiter
from broker.infrastructure.rate_limit import RateLimit, network_key, rate_limit_key
from broker.infrastructure.runtime.drain import DrainGate
from broker.login.errors import PolledTooFast, UnknownScene
from broker.login.match import TRIES_MAX, MatchKind

POLL_TOLERANCE = 1
"""Seconds that a poll may be early: timers and networks are uneven."""

WRONG_ANSWERS_MAX, WRONG_ANSWERS_WINDOW = 3 * TRIES_MAX, 600.0
"""Wrong digits of one person in a window of seconds. A wrong number counts as `TRIES_MAX` of them,
because either ends a login."""

USER_CODES_MAX, USER_CODES_WINDOW = 30, 60.0
"""Unknown user codes of one address or person in a window of seconds. A login lives for two minutes
by default, so one address guesses the code of a certain login with a chance of 60 in 20 ** 8. Of
1000 active codes, it finds one in 590 days, and 1000 addresses find one in 14 hours."""

USER_CODES_NETWORK_FACTOR = 10
"""Unknown user codes of an IPv6 /48, in `USER_CODES_MAX`. One customer may have its 65 536 /64s."""

JUDGED_SCANS_PER_MINUTE = 30
"""Scans of one person that the login policy judges in a minute: each may be a request to a site. A
scan that is refused because the phone is too old leaves the login pending and can be repeated."""


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


class MatchLimit:
    """Limits the wrong answers to the matches of one person, over all logins.

    Each wrong number ends a login, but a person who is sent many codes would soon choose the right
    number of one of them. Counters are local to this process.
    """

    def __init__(self) -> None:
        self._wrong_answers = RateLimit(WRONG_ANSWERS_MAX, WRONG_ANSWERS_WINDOW)

    def count(self, phone: Phone, kind: MatchKind) -> None:
        """Count a wrong answer."""
        for _ in range(WEIGHTS[kind]):
            self._wrong_answers.hit(identity_key(phone.identity))

    def check(self, phone: Phone) -> None:
        """Raise RateLimited for a person with too many wrong answers."""
        person = identity_key(phone.identity)
        if self._wrong_answers.is_used_up(person):
            raise RateLimited(self._wrong_answers.retry_after(person))


class UserCodeLimit:
    """Limits the guesses of user codes. Counters are local to this process.

    A user code is short, so a client over the limit gets no answer to any code (RFC 8628,
    section 5.1), in contrast to `RateLimiter.counting_failures`. A request counts from its start,
    so that simultaneous requests are no way around the limit.
    """

    def __init__(self) -> None:
        self._guesses = RateLimit(USER_CODES_MAX, USER_CODES_WINDOW)
        self._networks = RateLimit(USER_CODES_NETWORK_FACTOR * USER_CODES_MAX, USER_CODES_WINDOW)

    @contextmanager
    def counting(self, key: str) -> Iterator[None]:
        """Count an UnknownScene that is raised inside. Raises RateLimited over the limit.

        key: the client's address, or the key of a person.
        """
        with (
            _counting_unknown(self._networks, network_key(key, 48)),
            _counting_unknown(self._guesses, rate_limit_key(key)),
        ):
            yield


@contextmanager
def _counting_unknown(limit: RateLimit, key: str) -> Iterator[None]:
    if not limit.hit(key):
        raise RateLimited(limit.retry_after(key))
    try:
        yield
    except UnknownScene:
        raise
    except BaseException:
        limit.take_back(key)
        raise
    limit.take_back(key)


WEIGHTS: Mapping[MatchKind, int] = {"number": TRIES_MAX, "code": 1}
